"""Checks of an annotation file in COCO format, without a data set."""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmdet_losses.data.clean import DataError
from mmdet_losses.data.coco_boxes import box_cause, unusable_boxes, usable_objects

AGAIN = 'create or download it again'
REQUIRED = {
    'images': ('id', 'file_name', 'height', 'width'),
    'categories': ('id', 'name'),
    'annotations': ('id', 'image_id', 'category_id', 'bbox'),
}


class CocoFindings(NamedTuple):
    """Findings about an annotation file, and the facts that other checks compare with it."""

    name: str
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    categories: tuple[str, ...]
    """Names in the order of the file."""
    images: dict[Any, tuple[str, float, float]]
    """Id -> file name, height and width."""
    objects: Counter
    """Image id -> number of annotations that are no crowds."""
    num_annotations: int | None
    """None: the file has no ``annotations``, as COCO's files of the test images."""
    usable: Counter[str]
    """Class name -> number of objects that a data set trains with."""


def inspect_coco(path: str | Path) -> CocoFindings:
    """Findings about a file; a second call for an unchanged file costs nothing.

    Raises:
        DataError: the file is a folder, not JSON, or lacks entries that a data set reads.
    """
    state = Path(path).stat()
    return _inspect(str(path), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _inspect(path: str, _modified: int, _size: int) -> CocoFindings:
    content = read_json(Path(path))
    check_structure(content, path)
    annotations = content.get('annotations') or []
    check_annotations(annotations, path)
    names = [category['name'] for category in content['categories']]
    cause = box_cause(content, path)
    errors = [
        *_repeated_ids(content['images'], 'images', 'file_name', path),
        *_repeated_ids(annotations, 'annotations', 'image_id', path),
        *_category_faults(content['categories'], path),
        *([cause] if cause else []),
        *_unknown_owners(content, path),
    ]
    warnings = [
        *_repeated_images(content['images'], path),
        *_missing_options(annotations, path),
        *([] if cause else unusable_boxes(content, path)),
    ]
    return CocoFindings(
        name=path,
        errors=tuple(errors),
        warnings=tuple(warnings),
        categories=tuple(str(name) for name in names),
        images={i['id']: (i['file_name'], i['height'], i['width']) for i in content['images']},
        objects=Counter(each['image_id'] for each in annotations if not each.get('iscrowd')),
        num_annotations=len(annotations) if 'annotations' in content else None,
        usable=usable_objects(content),
    )


def read_json(path: Path) -> Any:
    """Content of a JSON file.

    Raises:
        DataError: the path is a folder, or the content is not JSON in UTF-8.
    """
    if path.is_dir():
        raise DataError(f'annotation file {path} is a folder: set ann_file to a file in it.')
    data = path.read_bytes()
    if data.startswith((b'\x1f\x8b', b'PK', b'BZh', b'\xfd7zXZ')):
        raise DataError(f'annotation file {path} is compressed: unpack it, and set ann_file to it.')
    if data.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(
            f'annotation file {path} starts with a byte order mark, which JSON does not have: save '
            'it as UTF-8 without BOM.'
        )
    try:
        return json.loads(data.decode('utf-8'))
    except UnicodeDecodeError as error:
        raise DataError(
            f'annotation file {path} is not UTF-8 (byte {data[error.start]:#x} at position '
            f'{error.start}; it may be latin-1): save it as UTF-8.'
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(
            f'annotation file {path} is not JSON ({error}) or incomplete: {AGAIN}.'
        ) from error


def check_structure(content: Any, path: str) -> None:
    """Raise a ``DataError`` unless every entry has the keys that a COCO data set reads."""
    wrong = f'annotation file {path} does not match its data set type'
    if not isinstance(content, dict):
        raise DataError(f'{wrong} (a JSON {type(content).__name__}, not an object): {AGAIN}.')
    for part, keys in REQUIRED.items():
        if part not in content and part != 'annotations':
            raise DataError(f"annotation file {path} has no '{part}', so it is not COCO: {AGAIN}.")
        entries = content.get(part, [])
        if entries is None and part == 'annotations':
            entries = []
        if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
            raise DataError(f"{wrong} ('{part}' is not a list of JSON objects): {AGAIN}.")
        for key in keys:
            lacking = [each for each in entries if key not in each]
            if lacking:
                raise DataError(
                    f'annotation file {path}: {len(lacking)} of {len(entries)} {part} have no '
                    f"'{key}' (the first: {_short(lacking[0])}), so it is not COCO: {AGAIN}."
                )
        _check_ids(entries, part, path)
    for image in content['images']:
        if not isinstance(image['file_name'], str):
            raise DataError(
                f'image {image["id"]} in {path} has the file_name {image["file_name"]!r}, which is '
                'not text: write the name of its file.'
            )
        if not all(_is_positive(image[key]) for key in ('height', 'width')):
            raise DataError(
                f'{image["file_name"]} in {path} has height {image["height"]!r} and width '
                f'{image["width"]!r}: give both in pixels.'
            )


def _check_ids(entries: Sequence[dict], part: str, path: str) -> None:
    """Raise a ``DataError`` for an id that a reader cannot look up or compare.

    Ids of images and categories may be texts. pycocotools calculates with those of annotations.
    """
    for key in ('id', 'image_id', 'category_id'):
        kinds = (int, float) if part == 'annotations' and key == 'id' else (int, float, str)
        wrong = [e for e in entries if key in e and not _is_id(e[key], kinds)]
        if wrong:
            raise DataError(
                f'{path}: {len(wrong)} of {len(entries)} {part} have a {key} that is not a number '
                f'(the first: {wrong[0][key]!r}): number them from 1.'
            )


def _is_id(value: Any, kinds: tuple[type, ...]) -> bool:
    """Whether a value is a text, or a number that float64 represents exactly."""
    exact = isinstance(value, str) or (isinstance(value, (int, float)) and abs(value) < 2**53)
    return exact and isinstance(value, kinds)


def check_annotations(annotations: Sequence[dict], path: str) -> None:
    """Raise a ``DataError`` for a box that is not four numbers, or a wrong ``iscrowd`` or ``area``.

    A text such as '0' as ``iscrowd`` would make an object a crowd.
    """
    rules = {'iscrowd': ((0, 1), '0 or 1'), 'area': (None, 'a number of pixels')}
    for key, (values, what) in rules.items():
        for each in annotations:
            value = each.get(key, 0)
            if value is None and key == 'iscrowd':
                continue
            finite = _is_number(value) and abs(value) < float('inf')
            if not finite or (values and value not in values):
                raise DataError(
                    f'annotation {each["id"]} in {path} has {key} {value!r}, which is not {what}: '
                    'correct or remove it.'
                )
    if not annotations:
        return
    try:
        boxes = np.array([each['bbox'] for each in annotations])
    except ValueError:  # lists of different lengths
        boxes = np.empty(0, object)
    if boxes.dtype.kind in 'if' and boxes.shape[1:] == (4,):
        return
    for each in annotations:
        if not four_numbers(each['bbox']):
            raise DataError(
                f'annotation {each["id"]} in {path} has the bbox {each["bbox"]}, which is not four '
                'numbers [x, y, w, h]: correct or remove it.'
            )


def four_numbers(box: Any) -> bool:
    """Whether a box is a list of four numbers."""
    return isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))


def _is_number(value: Any) -> bool:
    """Whether a value is a number that float64 can represent; integers of JSON may be larger."""
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**1000)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and 0 < value < float('inf')


def _repeated_ids(entries: Sequence[dict], part: str, shown: str, path: str) -> list[str]:
    ids = [each['id'] for each in entries]
    if len(set(ids)) == len(ids):
        return []
    repeated = Counter(ids)
    first = next(each for each in ids if repeated[each] > 1)
    values = [str(each[shown]) for each in entries if each['id'] == first][:2]
    count = sum(number for number in repeated.values() if number > 1)
    return [
        f'{path}: {count} {part} share their id with another one (the first: id {first}, with '
        f'{shown} {" and ".join(values)}). A reader keeps one of them and mixes up their boxes: '
        'give each an id of its own.'
    ]


def _unknown_owners(content: dict, path: str) -> list[str]:
    """Error if no annotation is used, because none has a listed image or category."""
    annotations = content.get('annotations') or []
    for key, part in {'image_id': 'images', 'category_id': 'categories'}.items():
        known = {each['id'] for each in content[part]}
        if annotations and known and not any(each[key] in known for each in annotations):
            return [
                f'{path}: none of the {len(annotations)} annotations has the {key} of a listed '
                f'entry (the first: {annotations[0][key]!r}, but {part} have ids such as '
                f'{content[part][0]["id"]!r}): correct one of them; 1 and "1" are different ids.'
            ]
    return []


def _category_faults(categories: Sequence[dict], path: str) -> list[str]:
    numbers = [each['name'] for each in categories if not isinstance(each['name'], str)]
    if numbers:
        return [
            f'{path}: {len(numbers)} category names are not text (the first: {numbers[0]!r}), but '
            f"class names are: write them in quotes, such as '{numbers[0]}'."
        ]
    for key in ('id', 'name'):
        repeated = Counter(str(each[key]) for each in categories)
        twice = [value for value, number in repeated.items() if number > 1]
        if twice:
            return [f'{path}: {len(twice)} categories share the {key} {twice[0]}: rename one.']
    return []


def _repeated_images(images: Sequence[dict], path: str) -> list[str]:
    names = Counter(each['file_name'] for each in images)
    if len(names) == len(images):
        return []
    first = next(name for name, number in names.items() if number > 1)
    ids = [each['id'] for each in images if each['file_name'] == first]
    return [
        f'{path}: {len(images) - len(names)} of {len(images)} images are duplicate entries of a '
        f'file (the first: {first} with the ids {", ".join(map(str, ids[:3]))}): each is used as '
        'an image of its own.'
    ]


def _missing_options(annotations: Sequence[dict], path: str) -> list[str]:
    """Warnings about entries that are completed: see ``compat.let_coco_files_be_incomplete``."""
    zero = [each for each in annotations if each['id'] == 0]
    found = {
        "no 'iscrowd', which is read as 0": [a for a in annotations if a.get('iscrowd') is None],
        "no 'area', which is read as width times height": [
            a for a in annotations if 'area' not in a
        ],
        'the id 0, which pycocotools reads as "no match"; it is evaluated under a new id': zero,
    }
    return [
        f'{path}: {len(some)} of {len(annotations)} annotations have {text} (the first: annotation '
        f'{some[0]["id"]} of image {some[0]["image_id"]}).'
        for text, some in found.items()
        if some
    ]


def _short(entry: dict) -> str:
    text = json.dumps(entry, default=str)
    return text if len(text) <= 80 else f'{text[:77]}...'
