"""Known errors of a training, each in one sentence with its cure."""

from __future__ import annotations

import difflib
import inspect
import json
import linecache
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from mmengine.registry import Registry
from torch import nn

from mmdet_losses import registry
from mmdet_losses.data.clean import DataError

COCO_KEYS = (
    'images', 'annotations', 'categories', 'id', 'file_name', 'height', 'width', 'image_id',
    'category_id', 'bbox', 'area', 'name',
)  # fmt: skip
FORMAT_ERRORS = (
    'AssertionError', 'AttributeError', 'IndexError', 'ParseError', 'TypeError', 'ValueError',
)  # fmt: skip
DISTANCE_ERRORS = (
    'ConnectionError', 'HTTPError', 'ModuleNotFoundError', 'TimeoutError', 'URLError',
)  # fmt: skip
PACKAGE = Path(registry.__file__).parent
PICTURES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm')


def explain(error: BaseException, cfg: Any = None) -> str | None:
    """What is wrong, with which value, and what helps.

    Knows what this package raises itself (its message is the sentence), unknown component names
    and arguments, missing or broken annotation files, missing or unreadable pictures, and layers
    whose channels do not match; also when they come from a data loader's worker process.

    Args:
        error: what a build, training or test raised.
        cfg: the config, if it was read; makes some sentences more precise.

    Returns:
        One sentence, or ``None`` for an error that is not known: show its traceback.
    """
    cfg = cfg if cfg is not None else {}
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        kind, said = _original(error)
        for known in KNOWN:
            sentence = known(kind, said, error, cfg)
            if sentence is not None:
                return sentence
        error = error.__cause__ or error.__context__
    return None


def _original(error: BaseException) -> tuple[str, str]:
    """Class name and message, those of the first error where a worker process passed it on."""
    said = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if 'Original Traceback' in said:
        lines = [line for line in said.splitlines() if re.match(r'[\w.]+: ', line)]
        kind, _, said = lines[-1].partition(': ')
        return kind.rpartition('.')[2], said
    return type(error).__name__, said


def _data_error(kind: str, said: str, error: BaseException, cfg: Any) -> str | None:
    return said if kind == DataError.__name__ else None


def _own_sentence(kind: str, said: str, error: BaseException, cfg: Any) -> str | None:
    """The message of a ``raise`` of this package: no slip of its code, which has no such line."""
    if 'Original Traceback' in str(error):
        places = re.findall(r'File "(.+?)", line \d+, in .+\n +(.+)', str(error))
    else:
        places = [
            (frame.f_code.co_filename, linecache.getline(frame.f_code.co_filename, line).strip())
            for frame, line in traceback.walk_tb(error.__traceback__)
        ]
    if not places or PACKAGE not in Path(places[-1][0]).parents:
        return None
    return said if places[-1][1].startswith('raise ') and said else None


def _unknown_name(kind: str, said: str, error: BaseException, cfg: Any) -> str | None:
    found = re.search(r'(\S+) is not in the \S+?::(.+?) registry', said)
    if not found:
        return None
    name, kind = found.groups()
    names = {each for one in _registries() if one.name == kind for each in _all_names(one)}
    return (
        f"the config names type='{name}', which is not registered ({kind}): "
        f'{_close(name.rpartition(".")[2], names)}correct the name, or add the module that '
        'registers it to custom_imports (tools/list_components.py lists what this package has).'
    )


def _unknown_argument(kind: str, said: str, error: BaseException, cfg: Any) -> str | None:
    found = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", said)
    if not found:
        return None
    name, argument = found.groups()
    component = next((one.get(name) for one in _registries() if name in _all_names(one)), None)
    if component is None:
        return None
    takes = [each for each in inspect.signature(component).parameters if each != 'self']
    return (
        f"the config gives {name} the argument '{argument}', which it does not take: "
        f'{_close(argument, takes)}it takes {", ".join(takes)}.'
    )


def _missing_weights(kind: str, said: str, error: BaseException, cfg: Any) -> str | None:
    found = re.fullmatch(r'(.+) can not be found\.', said)
    if kind != 'FileNotFoundError' or not found:
        return None
    return (
        f'checkpoint {found.group(1)}, which load_from or an init_cfg names, does not exist: get '
        'it (the README beside the config says how), or begin without it by --cfg-options '
        'load_from=None or model.backbone.init_cfg=None.'
    )


def _distant_weights(kind: str, said: str, error: BaseException, cfg: Any) -> str | None:
    """Weights named by an address, where there is no network or no torchvision that knows them."""
    if kind not in DISTANCE_ERRORS:
        return None
    names = (
        frame.f_locals.get('filename')
        for frame in _frames(error)
        if frame.f_code.co_name == 'load_checkpoint'
    )
    name = next((name for name in names if isinstance(name, str) and '://' in name), None)
    if name is None:
        return None
    return (
        f'weights {name}, which load_from or an init_cfg names, cannot be had here ({said}): get '
        'them elsewhere and name the file by --cfg-options model.backbone.init_cfg.checkpoint=FILE '
        '(or load_from=FILE), or begin without them by model.backbone.init_cfg=None.'
    )


def _missing_file(kind: str, said: str, error: BaseException, cfg: Any) -> str | None:
    found = re.search(r"No such file or directory: '(.+?)'", said)
    if kind != 'FileNotFoundError' or not found:
        return None
    path = found.group(1)
    if path.lower().endswith(PICTURES):
        return (
            f'picture {path} is listed in an annotation file but does not exist: correct '
            'data_prefix or data_root in the config, or remove its entry.'
        )
    for key, dataset in _datasets(cfg):
        if dataset.get('ann_file') and path.endswith(dataset['ann_file']):
            tool = (cfg.get('made_by') or {}).get('tool')
            made = f' (`python tools/{tool}.py` makes it)' if tool else ''
            return (
                f'annotation file {path} does not exist{made}: get the data, or correct ann_file '
                f'or data_root of {key} in the config.'
            )
    if path.endswith('.xml') and _list_in_reading(error):
        return (
            f'annotation file {path} does not exist, but {_list_in_reading(error)} lists its '
            'picture: get it, correct data_root or data_prefix, or remove the entry.'
        )
    return None


def _broken_annotations(kind: str, said: str, error: BaseException, cfg: Any) -> str | None:
    path, cure = _list_in_reading(error), 'make or download it again'
    if path is None:
        return None
    if kind == 'JSONDecodeError':
        return f'annotation file {path} is not JSON ({said}), perhaps cut off: {cure}.'
    if kind == 'KeyError' and said in COCO_KEYS:
        return f"annotation file {path} lacks '{said}', so it is not COCO format: {cure}."
    if kind not in FORMAT_ERRORS:
        return None
    for frame in _frames(error):
        note, picture = frame.f_locals.get('ann'), frame.f_locals.get('raw_img_info')
        if isinstance(picture, dict) and 'xml_path' in picture:
            path = picture['xml_path']
        if isinstance(note, dict) and not _four_numbers(note.get('bbox')):
            return (
                f'annotation file {path} gives annotation {note.get("id")} the bbox '
                f'{note.get("bbox")}, which is not four numbers [x, y, w, h]: correct or remove it.'
            )
    return f'annotation file {path} is not in the format of its data set ({said}): {cure}.'


def _list_in_reading(error: BaseException) -> str | None:
    """The annotation file that a data set was reading when it failed; None: it was not."""
    for frame in _frames(error):
        if frame.f_code.co_name == 'load_data_list':
            return getattr(frame.f_locals.get('self'), 'ann_file', 'of the data set')
    return None


def _four_numbers(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(isinstance(n, (int, float)) for n in box)


def _unreadable_picture(kind: str, said: str, error: BaseException, cfg: Any) -> str | None:
    found = re.search(r'failed to load image: (.+)', said)
    path = found.group(1) if found else None
    if path is None and 'imdecode' in said:  # OpenCV does not say which picture was empty
        path = next(_empty_files(cfg), 'of the data set')
    if path is None:
        return None
    return (
        f'picture {path} cannot be read (empty, cut off, or not a picture): replace the file, or '
        'remove its entry from the annotation file.'
    )


def _channels(kind: str, said: str, error: BaseException, cfg: Any) -> str | None:
    found = re.search(r'expected input.* to have (\d+) channels, but got (\d+) channels', said)
    if not found:
        return None
    expected, got = found.groups()
    types, where = dict(_types(cfg.get('model', {}), 'model')), 'a layer of the model'
    for frame in _frames(error):  # the innermost module that the config names
        module = frame.f_locals.get('self')
        name = type(module).__name__
        if isinstance(module, nn.Module) and name in types:
            where = f'{name} ({types[name]} in the config)'
    return (
        f'{where} expects {expected} channels, but what comes before it gives {got}: set its '
        f'in_channels to {got}, or the out_channels before it to {expected}.'
    )


KNOWN: tuple[Callable[[str, str, BaseException, Any], str | None], ...] = (
    _data_error,
    _own_sentence,
    _unknown_name,
    _unknown_argument,
    _missing_weights,
    _distant_weights,
    _missing_file,
    _broken_annotations,
    _unreadable_picture,
    _channels,
)


def _registries() -> list[Registry]:
    return [getattr(registry, name) for name in registry.__all__ if name != 'SCOPE']


def _all_names(one: Registry) -> set[str]:
    names = set(one.module_dict)
    return names | _all_names(one.parent) if one.parent is not None else names


def _close(name: str, names: Any) -> str:
    close = difflib.get_close_matches(name, sorted(names), n=3)
    return f'did you mean {" or ".join(close)}? If not, ' if close else ''


def _frames(error: BaseException) -> Iterator[FrameType]:
    return (frame for frame, _ in traceback.walk_tb(error.__traceback__))


def _types(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """(class name, path) of every component in a config."""
    if isinstance(node, dict):
        if isinstance(node.get('type'), str):
            yield node['type'].rpartition('.')[2], path
        for key, value in node.items():
            yield from _types(value, f'{path}.{key}')
    elif isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            yield from _types(value, f'{path}[{i}]')


def _datasets(cfg: Any) -> Iterator[tuple[str, Any]]:
    """(path, config) of every data set with an annotation file."""

    def walk(node: Any, path: str) -> Iterator[tuple[str, Any]]:
        if isinstance(node, (list, tuple)):
            for i, value in enumerate(node):
                yield from walk(value, f'{path}[{i}]')
        elif isinstance(node, dict):
            if 'ann_file' in node:
                yield path, node
            for key in ('dataset', 'datasets'):
                yield from walk(node.get(key), f'{path}.{key}')

    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        yield from walk(cfg.get(loader), loader)
    for evaluator in ('val_evaluator', 'test_evaluator'):
        yield from walk(cfg.get(evaluator), evaluator)


def _empty_files(cfg: Any) -> Iterator[str]:
    """Pictures of zero bytes, looked for only after one could not be decoded."""
    for _, dataset in _datasets(cfg):
        root = Path(dataset.get('data_root') or '')
        folder = root / (dataset.get('data_prefix') or {}).get('img', '')
        try:
            images = json.loads((root / dataset['ann_file']).read_text())['images']
            paths = [folder / image['file_name'] for image in images]
            yield from (str(path) for path in paths if path.stat().st_size == 0)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # not a COCO data set on this disk
