"""Checks of the boxes of an annotation file in COCO format."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmdet_losses.data.clean import LARGEST_SIDE

TOO_LARGE = 10
"""A box is far too large if a side is more than this number of image sides."""


class _Boxes(NamedTuple):
    """Columns of the annotations: xywh, and the size of each image (infinite if unknown)."""

    xywh: NDArray[np.float64]
    width: NDArray[np.float64]
    height: NDArray[np.float64]


def _columns(content: dict) -> _Boxes:
    annotations = content.get('annotations') or []
    sizes = {image['id']: (image['width'], image['height']) for image in content['images']}
    unknown = (np.inf, np.inf)
    size = [sizes.get(each['image_id'], unknown) for each in annotations]
    xywh = np.array([each['bbox'] for each in annotations], float).reshape(-1, 4)
    width, height = np.array(size, float).reshape(-1, 2).T
    return _Boxes(xywh, width, height)


def box_cause(content: dict, name: str) -> str | None:
    """Message if most boxes of a file have another format than xywh in pixels; else None.

    Two formats are found. Fractions of the image: no coordinate of 9 in 10 boxes exceeds 1.
    Corners: as x1, y1, x2, y2 the boxes are proper and within their images, but as xywh at least
    one in ten reaches more than 2 pixels beyond its image.
    """
    boxes = _columns(content)
    proper = np.isfinite(boxes.xywh).all(1) & (boxes.xywh[:, 2:] > 0).all(1)
    proper &= np.isfinite(boxes.width)
    if not proper.any():
        return None
    x, y, w, h = boxes.xywh[proper].T
    width, height = boxes.width[proper], boxes.height[proper]
    first = content['annotations'][int(np.argmax(proper))]
    example = f'the first: annotation {first["id"]} has the bbox {first["bbox"]}'
    fractions = (np.maximum.reduce([x, y, w, h]) <= 1) & (width > 2) & (height > 2)
    if fractions.mean() >= 0.9:
        return (
            f'{name}: {fractions.sum()} of {len(boxes.xywh)} boxes look like fractions of the '
            f'image ({example}): write x, y, width and height in pixels.'
        )
    corners = (w > x) & (h > y) & (x >= 0) & (y >= 0) & (w <= width + 1) & (h <= height + 1)
    beyond = (x + w > width + 2) | (y + h > height + 2)
    if corners.mean() >= 0.98 and (corners & beyond).mean() >= 0.1:
        return (
            f'{name}: {corners.sum()} of {len(boxes.xywh)} boxes look like x1, y1, x2, y2 '
            f'({example}), and as x, y, width, height {beyond.sum()} reach beyond their images: '
            'write x, y, width and height.'
        )
    return None


def unusable_boxes(content: dict, name: str) -> list[str]:
    """Warnings about boxes that ``CocoDataset`` drops silently, and about far too large ones.

    ``CocoDataset`` keeps a box if only its width or height is infinite or huge.

    Args:
        content: of an annotation file in COCO format (xywh boxes in pixels).
        name: of the file.
    """
    annotations = content.get('annotations') or []
    if not annotations:
        return []
    images = {image['id']: image for image in content['images']}
    columns = _columns(content)
    which, faults, infinite = _faults(content, columns)
    w, h = columns.xywh.T[2:]

    def counted(chosen: np.ndarray, fault: str) -> str:
        first = annotations[int(np.argmax(chosen))]
        image = images.get(first['image_id'], {}).get('file_name', first['image_id'])
        return f'{chosen.sum()} {fault} (the first: annotation {first["id"]} in {image})'

    found = [counted(which == i, fault) for i, fault in enumerate(faults) if (which == i).any()]
    warnings, of_all = [], f'of {len(annotations)} boxes'
    if found:
        unused = f'{(which >= 0).sum()} {of_all} are not used'
        warnings.append(f'{name}: {unused}: {", ".join(found)}.')
    huge = (w > TOO_LARGE * columns.width) | (h > TOO_LARGE * columns.height)
    used = {
        'have infinite size': infinite & (which < 0),
        f'are more than {TOO_LARGE} times larger than their image': huge & ~infinite & (which < 0),
    }
    for text, chosen in used.items():
        if chosen.any():
            count = counted(chosen, f'{of_all} {text} but the data set keeps them')
            warnings.append(
                f'{name}: {count}: correct the file, or add CheckAnnotations after '
                f'LoadAnnotations in the pipeline, which drops those of more than {LARGEST_SIDE} '
                'image sides.'
            )
    return warnings


def usable_objects(content: dict) -> Counter[str]:
    """Number of objects of each class that ``CocoDataset`` trains with: no crowds, no faults."""
    annotations = content.get('annotations') or []
    if not annotations:
        return Counter()
    names = {each['id']: str(each['name']) for each in content['categories']}
    which = _faults(content, _columns(content))[0]
    used = zip(annotations, which < 0, strict=True)
    return Counter(
        names[ann['category_id']] for ann, fine in used if fine and not ann.get('iscrowd')
    )


def _faults(
    content: dict, columns: _Boxes
) -> tuple[NDArray[np.int64], list[str], NDArray[np.bool_]]:
    """Index of the fault of each box (-1: none), the faults, and the boxes of infinite size."""
    annotations, images = content['annotations'], {image['id'] for image in content['images']}
    known = {category['id'] for category in content['categories']}
    x, y, w, h = boxes = columns.xywh.T
    area = np.array([ann.get('area', 1) for ann in annotations], float)
    with np.errstate(invalid='ignore', over='ignore'):  # infinity minus infinity
        right, bottom = x + w, y + h
    infinite = np.isposinf(w) | np.isposinf(h)
    infinite &= np.isfinite(boxes[:2]).all(0) & ~np.isnan(right + bottom)
    faults = {
        'not finite': ~np.isfinite(boxes).all(0) & ~infinite,
        'with a width or height of -1 (a placeholder for no box)': (w == -1) | (h == -1),
        'inverted': (w < 0) | (h < 0),
        'smaller than a pixel': (w < 1) | (h < 1) | (area <= 0),
        'outside the image': (
            (right <= 0) | (bottom <= 0) | (x >= columns.width) | (y >= columns.height)
        ),
        'of an unknown category': [ann['category_id'] not in known for ann in annotations],
        'of an unknown image': [ann['image_id'] not in images for ann in annotations],
    }
    which = np.select([np.asarray(fault) for fault in faults.values()], range(len(faults)), -1)
    return which, list(faults), infinite
