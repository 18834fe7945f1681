"""One report about the data of a config, made before any data set is built."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

from mmdet.datasets import CocoDataset, XMLDataset
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, get_rank

from mmdet_losses.data.clean import DataError
from mmdet_losses.data.coco_file import CocoFindings, inspect_coco, read_json
from mmdet_losses.data.image_files import bad_images
from mmdet_losses.data.voc_files import inspect_voc
from mmdet_losses.data.words import plural
from mmdet_losses.engine.data_config import DataSource, data_sources, evaluators, making_command
from mmdet_losses.registry import TASK_UTILS


class Report(NamedTuple):
    """Findings about the data of a config."""

    errors: list[str]
    warnings: list[str]


def check_data(
    cfg: Config,
    splits: Sequence[str] = ('train', 'val'),
    show: bool = True,
    images: bool = True,
) -> None:
    """Raise a ``DataError`` with all errors in the data of the splits; print the warnings.

    The first process examines the files for all.

    Args:
        cfg: the config; splits that it does not have are ignored.
        splits: of 'train', 'val' and 'test'.
        show: print the warnings; False where ``CheckDataHook`` logs them.
        images: also examine the image files.
    """
    message: list[str | None] = [None]
    if get_rank() == 0:
        report = examine_config(cfg, splits, images)
        for warning in report.warnings if show else ():
            print(f'warning: {warning}', file=sys.stderr)
        if report.errors:
            message[0] = join_errors(report.errors)
    broadcast_object_list(message)
    if message[0] is not None:
        raise DataError(message[0])


def join_errors(errors: Sequence[str]) -> str:
    """One message for one or several errors."""
    if len(errors) == 1:
        return errors[0]
    return '\n'.join([f'{len(errors)} errors in the data:', *(f'  - {each}' for each in errors)])


def examine_config(cfg: Config, splits: Sequence[str], images: bool = True) -> Report:
    """Errors and warnings about annotation files, images, class lists and evaluators."""
    report = Report([], [])
    expected = config_num_classes(cfg.get('model') or {}, report)
    for split in splits:
        sources, before = data_sources(cfg, split), len(report.errors)
        found = [_examine_source(each, cfg, split, expected, report) for each in sources]
        if images:
            for source, findings in zip(sources, found, strict=True):
                _examine_images(source, findings, report)
        coco = [each for each in found if each is not None]
        if len(coco) == len(sources) and coco:
            if len(report.errors) == before and (split == 'train' or _is_evaluated(cfg, split)):
                _check_objects(sources, coco, report)
            _examine_evaluators(cfg, split, sources, coco, report)
    return Report(list(dict.fromkeys(report.errors)), list(dict.fromkeys(report.warnings)))


def _examine_source(
    source: DataSource, cfg: Config, split: str, expected: int | None, report: Report
) -> CocoFindings | None:
    classes, path = source.classes, source.ann_file
    if source.kind is None or '://' in path or source.settings.get('backend_args'):
        return None  # unknown, or not on this disk
    wrong = _wrong_type(source)
    if wrong or isinstance(classes, str):
        report.errors.append(wrong)
        return None
    if not Path(path).exists():
        report.errors.append(missing_file(path, source.key, cfg, source.settings))
        return None
    if expected is not None and classes and len(classes) != expected:
        report.errors.append(compare_with_head(path, len(classes), expected))
    try:
        if issubclass(source.kind, XMLDataset):
            inspect_voc(source, classes, report)
        elif getattr(source.kind, 'load_data_list', None) is CocoDataset.load_data_list:
            return _examine_coco(source, cfg, split, classes, report)
        elif path.endswith('.json'):
            read_json(Path(path))
    except DataError as error:
        report.errors.append(str(error))
    return None


def _wrong_type(source: DataSource) -> str:
    """Message about settings of another type than the data set reads; empty if there is none."""
    classes = source.classes
    if isinstance(classes, str):
        return (
            f"metainfo classes of {source.key} is the text '{classes}', so each letter is a class: "
            f"write classes=('{classes}',)."
        )
    numbers = [each for each in classes if not isinstance(each, str)]
    if numbers:
        return (
            f'metainfo classes of {source.key} has {numbers[0]!r}, which is not text: write the '
            f"names in quotes, such as '{numbers[0]}'."
        )
    prefix = source.settings.get('data_prefix') or {}
    if not isinstance(prefix, dict):
        return (
            f'data_prefix of {source.key} is {prefix!r}, which is not a dict: write '
            f'data_prefix=dict(img={prefix!r}).'
        )
    return ''


def _examine_coco(
    source: DataSource, cfg: Config, split: str, classes: Sequence[str], report: Report
) -> CocoFindings:
    findings = inspect_coco(source.ann_file)
    report.errors.extend(findings.errors)
    report.warnings.extend(findings.warnings)
    if not findings.errors:
        try:
            compare_classes(classes, findings.categories, findings.name)
        except DataError as error:
            report.errors.append(str(error))
    empty = not findings.num_annotations and _is_evaluated(cfg, split)
    if empty or not findings.images:
        what = 'annotations' if findings.images else 'images'
        report.errors.append(f'{findings.name} of {source.key} has no {what}: check ann_file.')
    if split == 'train':
        report.warnings.extend(_too_many_objects(findings, cfg))
    return findings


def _is_evaluated(cfg: Config, split: str) -> bool:
    metrics = (settings for _, _, settings in evaluators(cfg, split))
    return any(not settings.get('format_only', False) for settings in metrics)


def _check_objects(
    sources: Sequence[DataSource], found: Sequence[CocoFindings], report: Report
) -> None:
    """Error if no file of a split has an object of the class list; one of several may have none."""
    wanted = [source.classes or tuple(each.usable) for source, each in zip(sources, found)]
    if any(each.usable[name] for names, each in zip(wanted, found) for name in names):
        return
    names = ', '.join(dict.fromkeys(each.name for each in found))
    total = sum(each.num_annotations or 0 for each in found)
    report.errors.append(
        f'{names} of {sources[0].key}: none of {plural(total, "annotation")} is a usable object of '
        f'the classes {few(sources[0].classes)}: check ann_file and the class list.'
    )


def _examine_images(source: DataSource, findings: CocoFindings | None, report: Report) -> None:
    if findings is not None:
        steps = source.settings.get('pipeline') or ()
        bad = bad_images(findings.images.values(), source.folder('img'), findings.name, steps)
        report.errors.extend(bad.errors)
        report.warnings.extend(bad.warnings)


def _too_many_objects(findings: CocoFindings, cfg: Config) -> list[str]:
    """Warning about images with more objects than the encoder uses."""
    encoder = ((cfg.get('model') or {}).get('bbox_head') or {}).get('encoder') or {}
    limit = encoder.get('max_objects')
    kind = TASK_UTILS.get(encoder['type']) if isinstance(encoder.get('type'), str) else None
    if limit is None and kind is not None:
        parameter = signature(kind).parameters.get('max_objects')
        limit = parameter.default if parameter else None
    if not isinstance(limit, int):
        return []
    crowded = {image: n for image, n in findings.objects.items() if n > limit}
    if not crowded:
        return []
    first = next(iter(crowded))
    name = findings.images.get(first, (first,))[0]
    return [
        f'{findings.name}: {plural(len(crowded), "image has", "images have")} more than {limit} '
        f'objects (the first: {name} with {crowded[first]}). The encoder uses the '
        f'first {limit}: set max_objects of {encoder["type"]} to use more.'
    ]


def _examine_evaluators(
    cfg: Config,
    split: str,
    sources: Sequence[DataSource],
    found: Sequence[CocoFindings],
    report: Report,
) -> None:
    for key, _, metric in evaluators(cfg, split):
        path = metric.get('ann_file')
        if not path or '://' in path or metric.get('backend_args'):
            continue
        if not Path(path).exists():
            report.errors.append(missing_file(path, key, cfg, sources[0].settings))
            continue
        if [path] == [each.name for each in found]:
            continue
        try:
            evaluated = inspect_coco(path)
            compare_classes(sources[0].classes, evaluated.categories, path)
        except DataError as error:
            report.errors.append(str(error))
            continue
        report.errors.extend(evaluated.errors)
        report.errors.extend(_compare_images(key, evaluated, found))


def _compare_images(key: str, evaluated: CocoFindings, found: Sequence[CocoFindings]) -> list[str]:
    """Error if the evaluator's file has other images than the data sets of its split."""
    tested: dict[Any, str] = {}
    for each in found:
        both = tested.keys() & each.images.keys()
        if both:
            first = next(iter(both))
            return [f'{each.name} and another file of its split both have the image id {first}.']
        tested |= {image: name for image, (name, *_) in each.images.items()}
    counted = {image: name for image, (name, *_) in evaluated.images.items()}
    different = [image for image in tested | counted if tested.get(image) != counted.get(image)]
    if not different:
        return []
    first = different[0]
    return [
        f'{key} evaluates with {evaluated.name}, but its data set reads '
        f'{" and ".join(each.name for each in found)}: '
        f'{plural(len(different), "image differs", "images differ")} (the first: id '
        f'{first} is {counted.get(first)} in the evaluator and {tested.get(first)} in the data '
        'set). Give both the same ann_file.'
    ]


# ------------------------------------------------------------------------ class lists and paths


def config_num_classes(model: dict[str, Any], report: Report | None = None) -> int | None:
    """``num_classes`` of the dense head of a detector's config; None if it has none.

    A predictor and an encoder with different numbers are an error in the report.
    """
    head = model.get('bbox_head') or (model.get('detector') or {}).get('bbox_head') or {}
    if not isinstance(head, dict):
        return None
    numbers = {
        part: value
        for part in ('predictor', 'encoder')
        if isinstance(value := (head.get(part) or {}).get('num_classes'), int)
    }
    if len(set(numbers.values())) > 1 and report is not None:
        report.errors.append(
            f'num_classes is {numbers["predictor"]} in the predictor but {numbers["encoder"]} in '
            'the encoder; set both to the number of classes of the data set.'
        )
        return None
    return next(iter(numbers.values()), head.get('num_classes'))


def compare_with_head(name: str, classes: int, num_classes: int) -> str:
    """Message about a head with another number of classes than its data set."""
    owner = f'the data set of {name} has {plural(classes, "class", "classes")}'
    fix = f'set num_classes={classes} in the head, or the class list of the data set'
    return f'{owner}, but the head has num_classes={num_classes}: {fix}.'


def compare_classes(classes: Sequence[str], listed: Sequence[str], name: str) -> None:
    """Raise a ``DataError`` unless the file lists all classes, in the same order.

    Args:
        classes: of the config.
        listed: names in the file.
        name: of the file.
    """
    missing = [each for each in classes if each not in listed]
    if missing:
        raise DataError(
            f'{name} lists the classes {few(listed)}, but not {few(missing)} of the config: set '
            'metainfo=dict(classes=(...)) of the data set to names in the file, and num_classes of '
            'the head to their number.'
        )
    order = [each for each in listed if each in classes]
    if order != list(classes):
        raise DataError(
            f'{name} lists its classes in the order {few(order)}, but metainfo has '
            f'classes={few(classes)}: MMDetection numbers labels in the order of the file, so '
            "results would have wrong names; write the classes in the file's order."
        )


def missing_file(path: str, key: str, cfg: Any, settings: dict[str, Any]) -> str:
    """Message about a missing annotation file, with the command that makes it if there is one."""
    command = making_command(cfg, settings.get('data_root'))
    made = f' (`{command}` creates it)' if command else ''
    return (
        f'annotation file {path} does not exist{made}: get the data, or correct ann_file or '
        f'data_root of {key} in the config.'
    )


def few(names: Iterable[str]) -> str:
    """The first names, and their number if there are more."""
    names = list(names)
    shown = ', '.join(names[:5])
    return f'{shown}, ... ({len(names)} in all)' if len(names) > 5 else shown or 'none'
