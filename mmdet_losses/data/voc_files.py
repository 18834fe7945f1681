"""Checks of a data set in Pascal VOC format, without building it."""

from __future__ import annotations

import os.path as osp
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from mmdet_losses.data.clean import REASONS, DataError, box_faults
from mmdet_losses.data.image_files import bad_images, missing_paths
from mmdet_losses.data.words import plural

READ = 2000
"""Number of XML files that are read, spread evenly over the list."""


def inspect_voc(source: Any, classes: Sequence[str], report: Any) -> None:
    """Add the errors and warnings of a VOC data set to a report.

    Args:
        source: the data set, with ``ann_file``, ``settings`` and ``folder(key)``.
        classes: names in the config.
        report: with the lists ``errors`` and ``warnings``.

    Raises:
        DataError: the list of images is a folder or has an empty line, or an XML file is missing
            or broken.
    """
    listing = Path(source.ann_file)
    if listing.is_dir():
        raise DataError(f'annotation file {listing} is a folder: set ann_file to a list of images.')
    ids = _listed(listing)
    if not ids:
        report.errors.append(f'{listing} of {source.key} lists no images: check ann_file.')
        return
    twice = [name for name, number in Counter(ids).items() if number > 1]
    if twice:
        report.warnings.append(
            f'{listing} lists {plural(len(twice), "image")} more than once (the first: '
            f'{twice[0]}): each entry is used as an image of its own.'
        )
    root, get = source.folder('sub_data_root'), source.settings.get
    xml = [osp.join(root, get('ann_subdir', 'Annotations'), f'{each}.xml') for each in ids]
    missing = missing_paths(xml)
    if missing:
        raise DataError(
            f'annotation file {missing[0]} does not exist, but {listing} lists its image '
            f'({len(missing)} of {len(xml)} are missing): add the file, correct data_root or '
            'data_prefix, or remove the entry.'
        )
    folder = osp.join(root, get('img_subdir', 'JPEGImages'))
    images = [osp.join(folder, f'{each}.jpg') for each in ids]
    other = _other_format(missing_paths(images))
    if other:
        report.errors.append(other)
        return
    chosen = range(0, len(ids), max(1, -(-len(ids) // READ)))
    read = {xml[i]: _read_xml(xml[i], classes) for i in chosen}
    found = {ids[i]: read[xml[i]].size for i in chosen}
    sizes = [(f'{name}.jpg', *size) for name, size in found.items() if size is not None]
    names = Counter(name for image in read.values() for name in image.names)
    first: dict[str, str] = {}
    for path, image in read.items():
        first |= {name: path for name in image.names if name not in first}
    if not names:
        report.errors.append(
            f'{listing} of {source.key}: none of {plural(len(read), "XML file")} has an object '
            f'(the first: {xml[0]}): check ann_file and the files.'
        )
    _compare_names(names, first, classes, str(listing), report)
    _examine_boxes(read, str(listing), report)
    bad = bad_images(sizes, folder, str(listing), source.settings.get('pipeline') or ())
    report.errors.extend(bad.errors)
    report.warnings.extend(bad.warnings)


class _Image(NamedTuple):
    """Content of an XML file."""

    size: tuple[int, int] | None
    """(height, width)."""
    names: list[str]
    """Of all objects."""
    boxes: list[list[float]]
    """xyxy, of the objects in the class list."""


def _listed(listing: Path) -> list[str]:
    """Names in a list of images; MMDetection reads an empty line as a name."""
    try:
        names = listing.read_text(encoding='utf-8').splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f'list of images {listing} is not UTF-8: save it as UTF-8.') from error
    empty = [number for number, name in enumerate(names, 1) if not name.strip()]
    if empty and len(empty) < len(names):
        raise DataError(f'line {empty[0]} of {listing} is empty: remove the line.')
    return [name for name in names if name.strip()]


def _other_format(missing: Sequence[str]) -> str | None:
    """Error if the images of a VOC data set exist with another suffix than .jpg."""
    found = ((path, sibling) for path in missing for sibling in _siblings(path))
    path, sibling = next(found, (None, None))
    if path is None:
        return None
    return (
        f'image {path} does not exist, but {sibling} does ({len(missing)} .jpg files are missing): '
        "MMDetection's XMLDataset reads .jpg files only. Convert the images to .jpg, or the data "
        'set to COCO.'
    )


def _siblings(path: str) -> Iterator[str]:
    stem = osp.splitext(path)[0]
    for suffix in ('.png', '.PNG', '.jpeg', '.JPG', '.JPEG', '.bmp', '.webp', '.tif'):
        if osp.isfile(stem + suffix):
            yield stem + suffix


def _read_xml(path: str, classes: Sequence[str]) -> _Image:
    try:
        root = ElementTree.parse(path).getroot()
        objects = root.findall('object')
        _check_elements(root, len(objects))
        names = [each.findtext('name') or '' for each in objects]
        if '' in names:
            raise ValueError('an object has no <name>')
        boxes = [_read_box(each) for each in objects if each.findtext('name') in classes]
        size = root.find('size')
        if size is None:
            return _Image(None, names, boxes)
        height, width = (int(size.findtext(key) or 0) for key in ('height', 'width'))
        if min(height, width) <= 0:
            raise ValueError(f'its <size> is {width} x {height}')
        return _Image((height, width), names, boxes)
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(
            f'annotation file {path} does not match its data set type ({error}): correct it, or '
            'create it again.'
        ) from error


def _check_elements(root: ElementTree.Element, found: int) -> None:
    """Raise a ``ValueError`` for objects in elements that MMDetection ignores silently.

    It reads ``object`` in lower case, without a namespace, directly below the root.
    """
    names = re.findall(r'<([\w:.-]+)', ElementTree.tostring(root, 'unicode'))
    every = [name for name in names if name.lower().rpartition(':')[2] == 'object']
    if len(every) != found:
        other = next((name for name in every if name != 'object'), 'object')
        raise ValueError(
            f'it has {len(every)} objects, but {found} of them in <object> directly below the root '
            f'element; another one is in <{other}>{" of a namespace" if ":" in other else ""}'
        )
    if not found and names[0].lower().rpartition(':')[2] != 'annotation':
        raise ValueError(f'its root element is <{names[0]}>, not <annotation>')


def _read_box(element: ElementTree.Element) -> list[float]:
    """Corners of an object whose numbers MMDetection can read.

    Raises:
        ValueError: a coordinate or ``difficult`` is not a number.
    """
    name, box = element.findtext('name'), []
    for key in ('xmin', 'ymin', 'xmax', 'ymax'):
        text = element.findtext(f'bndbox/{key}')
        try:
            box.append(float(text or ''))
            int(box[-1])
        except (ValueError, OverflowError):
            raise ValueError(f'{key} of an object named {name!r} is {text!r}') from None
    difficult = element.findtext('difficult', '0')
    if not difficult.strip().isdecimal():
        raise ValueError(f'difficult of an object named {name!r} is {difficult!r}, not 0 or 1')
    return box


def _examine_boxes(read: Mapping[str, _Image], listing: str, report: Any) -> None:
    """Error about boxes in fractions of their images, and warnings about unusable boxes."""
    found = [(path, image, box) for path, image in read.items() for box in image.boxes]
    fractions = [path for path, _, box in found if max(box) <= 1]
    if found and len(fractions) >= 0.9 * len(found):
        report.errors.append(
            f'{listing}: {len(fractions)} of {plural(len(found), "box", "boxes")} look like '
            f'fractions of the image (the first in {fractions[0]}): write the corners in pixels.'
        )
        return
    faults: dict[str, list[str]] = {}
    for path, image, box in found:
        size = image.size or (10**9, 10**9)
        (fault,) = box_faults(np.array([box]), size)
        if fault >= 0:
            faults.setdefault(REASONS[fault], []).append(path)
    for reason, paths in faults.items():
        report.warnings.append(
            f'{listing}: {plural(len(paths), "box is", "boxes are")} {reason} (the first in '
            f'{paths[0]}): correct the file, or add CheckAnnotations after LoadAnnotations in the '
            'pipeline, which drops and counts them.'
        )


def _compare_names(
    names: Counter[str], first: dict[str, str], classes: Sequence[str], listing: str, report: Any
) -> None:
    plain = {each.strip().casefold(): each for each in classes}
    unknown = [name for name in names if name not in classes]
    similar = [name for name in unknown if name.strip().casefold() in plain]
    if similar:
        name = similar[0]
        report.errors.append(
            f'{listing}: {plural(names[name], "object is", "objects are")} named {name!r} (the '
            f'first in {first[name]}), '
            f'which differs from the class {plain[name.strip().casefold()]!r} by case or spaces, '
            'so MMDetection drops them: write the same names.'
        )
    elif names and len(unknown) == len(names):
        report.errors.append(
            f'{listing} has objects of the classes {", ".join(sorted(unknown)[:5])}, and none of '
            'the class list of the config: set metainfo=dict(classes=(...)) to names in the files.'
        )
    elif unknown:
        count = sum(names[name] for name in unknown)
        report.warnings.append(
            f'{listing}: {plural(count, "object")} of {", ".join(sorted(unknown)[:5])} not used, '
            f'because the class list does not have them (the first in {first[unknown[0]]}).'
        )
