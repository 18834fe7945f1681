"""Known errors of a training or test, each explained in one message with its fix."""

from __future__ import annotations

import difflib
import errno
import inspect
import json
import linecache
import re
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from mmengine.registry import Registry
from torch import nn

from mmdet_losses import registry
from mmdet_losses.data.clean import DataError
from mmdet_losses.data.coco_file import four_numbers
from mmdet_losses.engine.data_config import data_sources, evaluators
from mmdet_losses.engine.data_report import missing_file
from mmdet_losses.engine.explain_setup import explain_setup

COCO_KEYS = (
    'images', 'annotations', 'categories', 'id', 'file_name', 'height', 'width', 'image_id',
    'category_id', 'bbox', 'area', 'name',
)  # fmt: skip
FORMAT_ERRORS = (
    'AssertionError', 'AttributeError', 'IndexError', 'ParseError', 'TypeError', 'ValueError',
)  # fmt: skip
DOWNLOAD_ERRORS = (
    'ConnectionError', 'HTTPError', 'ModuleNotFoundError', 'TimeoutError', 'URLError',
)  # fmt: skip
PACKAGE = Path(registry.__file__).parent
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm')


class Failure(NamedTuple):
    """An error with its original type name and message, and the config (or an empty dict)."""

    kind: str
    message: str
    error: BaseException
    cfg: Any


def explain(error: BaseException, cfg: Any = None) -> str | None:
    """Message for a known error: what is wrong, with the value, and how to fix it.

    Known are the errors that this package raises (their own message), unknown component names and
    arguments, missing or broken annotation files, missing or unreadable images, layers with
    different numbers of channels, and settings that a part of the config does not accept. Errors
    from worker processes of a data loader are included.

    Args:
        error: raised by a build, training or test.
        cfg: the config, if it was read; makes some messages more precise.

    Returns:
        The message, or ``None`` for an unknown error, which needs its traceback.
    """
    current: BaseException | None = error
    visited: list[BaseException] = []
    while current is not None and current not in visited:
        visited.append(current)
        failure = Failure(*_original(current), current, {} if cfg is None else cfg)
        for explanation in EXPLANATIONS:
            message = explanation(failure)
            if message is not None:
                return message
        current = current.__cause__ or current.__context__
    found = (explain_setup(each, *_original(each), cfg) for each in visited)
    return next(filter(None, found), None)


def _original(error: BaseException) -> tuple[str, str]:
    """Type name and message; for an error from a worker process those of the original error."""
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if 'Original Traceback' in message:
        lines = [line for line in message.splitlines() if re.match(r'[\w.]+: ', line)]
        kind, _, message = lines[-1].partition(': ')
        return kind.rpartition('.')[2], message
    return type(error).__name__, message


def _data_error(failure: Failure) -> str | None:
    return failure.message if failure.kind == DataError.__name__ else None


def _own_error(failure: Failure) -> str | None:
    """The message of a ``raise`` statement of this package; None for a defect in its code."""
    if 'Original Traceback' in str(failure.error):
        places = re.findall(r'File "(.+?)", line \d+, in .+\n +(.+)', str(failure.error))
    else:
        places = [
            (frame.f_code.co_filename, linecache.getline(frame.f_code.co_filename, line).strip())
            for frame, line in traceback.walk_tb(failure.error.__traceback__)
        ]
    if not places or PACKAGE not in Path(places[-1][0]).parents:
        return None
    return failure.message if places[-1][1].startswith('raise ') and failure.message else None


def _unknown_name(failure: Failure) -> str | None:
    found = re.search(r'(\S+) is not in the (?:\S+?::)?(.+?) registry', failure.message)
    name, kind = found.groups() if found else (_unknown_optimizer(failure.error), 'optimizer')
    if name is None:
        return None
    names = {each for one in _registries() if one.name == kind for each in _all_names(one)}
    if name in names:
        scope = failure.cfg.get('default_scope')
        return (
            f"type='{name}' in the config is not registered in the scope {scope!r} ({kind}): set "
            "default_scope='mmdet' in the config."
        )
    return (
        f"type='{name}' in the config is not registered ({kind}): "
        f'{_similar(name.rpartition(".")[2], names)}correct the name, or add the module that '
        'registers it to custom_imports (tools/list_components.py lists all names of this package).'
    )


def _unknown_optimizer(error: BaseException) -> str | None:
    """Name of an optimizer that MMEngine did not find; it then reads the arguments of None."""
    for frame in _frames(error):
        values = frame.f_locals
        if values.get('optimizer_cls', '') is None and 'optimizer_cfg' in values:
            return str(values['optimizer_cfg'].get('type'))
    return None


def _unknown_argument(failure: Failure) -> str | None:
    pattern = r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'"
    found = re.search(pattern, failure.message)
    if not found:
        return None
    name, argument = found.groups()
    component = next((one.get(name) for one in _registries() if name in _all_names(one)), None)
    if component is None:
        return None
    arguments = [each for each in inspect.signature(component).parameters if each != 'self']
    return (
        f"{name} has no argument '{argument}', which the config sets: "
        f'{_similar(argument, arguments)}its arguments are {", ".join(arguments)}.'
    )


def _empty_data_set(failure: Failure) -> str | None:
    """A data set that has no images after its filters."""
    if 'need at least one array to concatenate' not in failure.message:
        return None
    for frame in _frames(failure.error):
        dataset = frame.f_locals.get('self')
        if frame.f_code.co_name == '_serialize_data' and dataset is not None:
            return (
                f'{type(dataset).__name__} of {dataset.ann_file or "the config"} has no images '
                f'left: check its filter_cfg ({dataset.filter_cfg}) and indices '
                f'({dataset._indices}), and that its images have objects of the class list.'
            )
    return None


def _missing_weights(failure: Failure) -> str | None:
    found = re.fullmatch(r'(.+) can not be found\.', failure.message)
    if failure.kind != 'FileNotFoundError' or not found:
        return None
    return (
        f'checkpoint {found.group(1)} of load_from or an init_cfg does not exist: get the file '
        '(see the README beside the config), or start without it with --cfg-options '
        'load_from=None or model.backbone.init_cfg=None.'
    )


def _remote_weights(failure: Failure) -> str | None:
    """Weights with a URL, without a network or without torchvision."""
    if failure.kind not in DOWNLOAD_ERRORS:
        return None
    names = (
        frame.f_locals.get('filename')
        for frame in _frames(failure.error)
        if frame.f_code.co_name == 'load_checkpoint'
    )
    name = next((name for name in names if isinstance(name, str) and '://' in name), None)
    if name is None:
        return None
    return (
        f'weights {name} of load_from or an init_cfg cannot be downloaded ({failure.message}): '
        'download the file on another machine and set --cfg-options '
        'model.backbone.init_cfg.checkpoint=FILE (or load_from=FILE), or start without weights '
        'with model.backbone.init_cfg=None.'
    )


def _missing_file(failure: Failure) -> str | None:
    found = re.search(r"No such file or directory: '(.+?)'", failure.message)
    if failure.kind != 'FileNotFoundError' or not found:
        return None
    path = found.group(1)
    if path.lower().endswith(IMAGE_SUFFIXES):
        return (
            f'image {path} is listed in an annotation file but does not exist: correct '
            'data_prefix or data_root in the config, or remove its entry.'
        )
    for key, dataset in _datasets(failure.cfg):
        if dataset.get('ann_file') and path.endswith(dataset['ann_file']):
            return missing_file(path, key, failure.cfg, dataset)
    if path.endswith('.xml') and _file_being_read(failure.error):
        return (
            f'annotation file {path} does not exist, but {_file_being_read(failure.error)} lists '
            'its image: add the file, correct data_root or data_prefix, or remove the entry.'
        )
    return None


def _broken_annotations(failure: Failure) -> str | None:
    path, fix = _file_being_read(failure.error), 'create or download it again'
    if path is None:
        return None
    if failure.kind == 'JSONDecodeError':
        return f'annotation file {path} is not JSON ({failure.message}) or incomplete: {fix}.'
    if failure.kind == 'KeyError' and failure.message in COCO_KEYS:
        return f"annotation file {path} has no '{failure.message}', so it is not COCO: {fix}."
    if failure.kind not in FORMAT_ERRORS:
        return None
    for frame in _frames(failure.error):
        ann, image = frame.f_locals.get('ann'), frame.f_locals.get('raw_img_info')
        if isinstance(image, dict) and 'xml_path' in image:
            path = image['xml_path']
        if isinstance(ann, dict) and not four_numbers(ann.get('bbox')):
            return (
                f'annotation {ann.get("id")} in {path} has the bbox {ann.get("bbox")}, which is '
                'not four numbers [x, y, w, h]: correct or remove it.'
            )
    return f'annotation file {path} does not match its data set type ({failure.message}): {fix}.'


def _file_being_read(error: BaseException) -> str | None:
    """Annotation file that a data set was reading when the error was raised; None: no file."""
    for frame in _frames(error):
        if frame.f_code.co_name == 'load_data_list':
            return getattr(frame.f_locals.get('self'), 'ann_file', 'of the data set')
    return None


def _unreadable_image(failure: Failure) -> str | None:
    found = re.search(r'failed to load image: (.+)', failure.message)
    path = found.group(1) if found else None
    if path is None and 'imdecode' in failure.message:  # OpenCV does not name the empty file
        path = next(_empty_files(failure.cfg), 'of the data set')
    if path is None:
        return None
    return (
        f'image {path} cannot be read (empty, truncated, or not an image): replace the file, or '
        'remove its entry from the annotation file.'
    )


def _no_space(failure: Failure) -> str | None:
    error = failure.error
    reasons = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
    if not isinstance(error, OSError) or error.errno not in reasons:
        return None
    where = f' {error.filename}' if error.filename else ''
    return (
        f'file{where} cannot be read or written ({error.strerror}): free some space or change the '
        'permissions. Files written before are complete; a training continues with --resume.'
    )


def _channels(failure: Failure) -> str | None:
    pattern = r'expected input.* to have (\d+) channels, but got (\d+) channels'
    found = re.search(pattern, failure.message)
    if not found:
        return None
    expected, actual = found.groups()
    types, where = dict(_types(failure.cfg.get('model', {}), 'model')), 'a layer of the model'
    for frame in _frames(failure.error):  # the innermost module that is in the config
        module = frame.f_locals.get('self')
        name = type(module).__name__
        if isinstance(module, nn.Module) and name in types:
            where = f'{name} ({types[name]} in the config)'
    return (
        f'{where} expects {expected} channels, but its input has {actual}: set its in_channels to '
        f'{actual}, or out_channels of the layer before it to {expected}.'
    )


EXPLANATIONS = (
    _data_error,
    _own_error,
    _unknown_name,
    _unknown_argument,
    _missing_weights,
    _remote_weights,
    _missing_file,
    _broken_annotations,
    _unreadable_image,
    _no_space,
    _channels,
    _empty_data_set,
)


def _registries() -> list[Registry]:
    return [getattr(registry, name) for name in registry.__all__ if name != 'SCOPE']


def _all_names(one: Registry) -> set[str]:
    names = set(one.module_dict)
    return names | _all_names(one.parent) if one.parent is not None else names


def _similar(name: str, names: Iterable[str]) -> str:
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
    """(path, config) of every data set and evaluator with an annotation file."""

    for split in ('train', 'val', 'test'):
        yield from ((each.key, each.settings) for each in data_sources(cfg, split))
        found = ((key, metric) for key, _, metric in evaluators(cfg, split))
        yield from (each for each in found if 'ann_file' in each[1])


def _empty_files(cfg: Any) -> Iterator[str]:
    """Images of zero bytes, searched only after an image could not be decoded."""
    for _, dataset in _datasets(cfg):
        root = Path(dataset.get('data_root') or '')
        folder = root / (dataset.get('data_prefix') or {}).get('img', '')
        try:
            images = json.loads((root / dataset['ann_file']).read_text())['images']
            paths = [folder / image['file_name'] for image in images]
            yield from (str(path) for path in paths if path.stat().st_size == 0)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # not a COCO data set on this disk
