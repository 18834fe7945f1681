"""Checks of a data set in Pascal VOC format, without building it."""

from __future__ import annotations

import os.path as osp
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from mmdet_losses.data.clean import DataError
from mmdet_losses.data.image_files import bad_images, missing_paths

READ = 2000
"""Number of XML files that are read, spread evenly over the list."""


def inspect_voc(source: Any, classes: Sequence[str], report: Any) -> None:
    """Add the errors and warnings of a VOC data set to a report.

    Args:
        source: the data set, with ``ann_file``, ``settings`` and ``folder(key)``.
        classes: names in the config.
        report: with the lists ``errors`` and ``warnings``.

    Raises:
        DataError: the list of images is a folder, or an XML file is missing or broken.
    """
    listing = Path(source.ann_file)
    if listing.is_dir():
        raise DataError(f'annotation file {listing} is a folder: set ann_file to a list of images.')
    ids = [line for line in listing.read_text().splitlines() if line]
    if not ids:
        report.errors.append(f'{listing} of {source.key} lists no images: check ann_file.')
        return
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
    sizes, names = [], Counter[str]()
    first: dict[str, str] = {}
    for i in chosen:
        size, found = _read_xml(xml[i])
        names.update(found)
        first |= {name: xml[i] for name in found if name not in first}
        if size is not None:
            sizes.append((f'{ids[i]}.jpg', *size))
    _compare_names(names, first, classes, str(listing), report)
    bad = bad_images(sizes, folder, str(listing), source.settings.get('pipeline') or ())
    report.errors.extend(bad.errors)
    report.warnings.extend(bad.warnings)


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


def _read_xml(path: str) -> tuple[tuple[int, int] | None, list[str]]:
    """(height, width) or None, and the names of the objects."""
    try:
        root = ElementTree.parse(path).getroot()
        names = [each.findtext('name') or '' for each in root.findall('object')]
        size = root.find('size')
        if size is None:
            return None, names
        return (int(size.findtext('height') or 0), int(size.findtext('width') or 0)), names
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(
            f'annotation file {path} does not match its data set type ({error}): create or '
            'download it again.'
        ) from error


def _compare_names(
    names: Counter[str], first: dict[str, str], classes: Sequence[str], listing: str, report: Any
) -> None:
    plain = {each.strip().casefold(): each for each in classes}
    unknown = [name for name in names if name not in classes]
    similar = [name for name in unknown if name.strip().casefold() in plain]
    if similar:
        name = similar[0]
        report.errors.append(
            f'{listing}: {names[name]} objects are named {name!r} (the first in {first[name]}), '
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
            f'{listing}: {count} objects of {", ".join(sorted(unknown)[:5])} are not used, because '
            f'the class list does not have them (the first in {first[unknown[0]]}).'
        )
