"""Removal of invalid boxes from the annotations."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.structures.bbox import BaseBoxes
from mmengine.logging import print_log
from numpy.typing import NDArray

from mmdet_losses.data.words import plural
from mmdet_losses.ops import check_choice
from mmdet_losses.registry import TRANSFORMS

LARGEST_SIDE = 100
"""Side of the largest possible box, in sides of its image; a larger one is an error."""
REASONS = (
    'not finite', 'inverted', 'of zero size', 'outside the image', 'of impossible size',
    'of unknown label',
)  # fmt: skip
PER_OBJECT = (
    'gt_bboxes', 'gt_bboxes_labels', 'gt_ignore_flags', 'gt_masks', 'gt_instances_ids',
    'gt_keypoints', 'gt_keypoints_visible', 'gt_keypoints_ids', 'gt_weights',
)  # fmt: skip


class DataError(ValueError):
    """An error in the data; the message is complete and shown without a traceback."""


def box_faults(boxes: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.int64]:
    """Reason why each box is invalid.

    Shape:
        boxes: (n, 4) xyxy in pixels of an image of ``size`` (h, w).
        Returns (n,) indices into :data:`REASONS` (the first that applies), -1 for a valid box.
    """
    largest = LARGEST_SIDE * max(size)
    if _usual(boxes, size, largest):
        return np.full(len(boxes), -1)
    x1, y1, x2, y2 = boxes.T
    with np.errstate(invalid='ignore', over='ignore'):
        faults = [
            ~np.isfinite(boxes).all(1),
            (x2 < x1) | (y2 < y1),
            (x2 == x1) | (y2 == y1),
            (x2 <= 0) | (y2 <= 0) | (x1 >= size[1]) | (y1 >= size[0]),
            np.maximum(x2 - x1, y2 - y1) > largest,
        ]
    return np.select(faults, range(len(faults)), default=-1)


def _usual(boxes: NDArray[np.floating], size: tuple[int, int], largest: float) -> bool:
    """A quick test that all boxes are valid; False for unusual ones."""
    if not len(boxes):
        return True
    left, top, right, bottom = boxes.min(0).tolist()
    last_left, last_top, last_right, last_bottom = boxes.max(0).tolist()
    return (
        min(left, top) >= -largest / 2
        and max(last_right, last_bottom) <= largest / 2
        and min(right, bottom) > 0
        and last_left < size[1]
        and last_top < size[0]
        and bool((boxes[:, 2:] > boxes[:, :2]).all())  # False with a NaN
    )


@TRANSFORMS.register_module()
class CheckAnnotations(BaseTransform):
    """Drop boxes that are not finite, inverted, of zero size or completely outside the image.

    A box with a side of more than 100 image sides is dropped as well, before a transform clips it
    to the whole image.

    Place it directly after ``LoadAnnotations`` in a training pipeline. The first dropped box is
    logged once per reason, the others are counted. The worker processes of a data loader share the
    counts. Boxes that are partly outside the image are not changed.

    Required keys: ``img_shape``, ``gt_bboxes``; ``gt_bboxes_labels`` with ``num_classes``.
    Modified keys: those of ``PER_OBJECT`` that exist.

    Args:
        num_classes: number of classes; other labels than 0 to ``num_classes - 1`` are wrong.
            ``None``: labels are not checked.
        wrong_labels: 'raise' an error or 'drop' the objects. Wrong labels usually mean that the
            class list differs from that of the annotation file, so the default raises.

    Raises:
        ValueError: ``wrong_labels`` is neither 'raise' nor 'drop'.
        DataError: a wrong label, with ``wrong_labels='raise'``.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        wrong_labels: Literal['raise', 'drop'] = 'raise',
    ) -> None:
        check_choice('wrong_labels', wrong_labels, ('raise', 'drop'))
        self.num_classes, self.wrong_labels = num_classes, wrong_labels
        self._counts = torch.zeros(len(REASONS), dtype=torch.long).share_memory_()

    @property
    def counts(self) -> dict[str, int]:
        """Number of dropped boxes per reason, over all workers and epochs."""
        return dict(zip(REASONS, self._counts.tolist(), strict=True))

    def transform(self, results: dict) -> dict:
        """Keep the valid boxes and their other annotations."""
        boxes = results['gt_bboxes']
        corners = boxes.tensor.numpy() if isinstance(boxes, BaseBoxes) else np.asarray(boxes)
        faults = box_faults(corners, results['img_shape'])
        if self.num_classes is not None:
            labels = np.asarray(results['gt_bboxes_labels'])
            wrong = (labels < 0) | (labels >= self.num_classes)
            if wrong.any() and self.wrong_labels == 'raise':
                raise DataError(
                    f'{_name(results)} has an object with label {labels[wrong][0]}, but there are '
                    f'{plural(self.num_classes, "class", "classes")} (labels 0 to '
                    f'{self.num_classes - 1}); correct the '
                    'annotation, or num_classes and the class list in the config.'
                )
            faults = np.where((faults < 0) & wrong, REASONS.index('of unknown label'), faults)
        if (faults >= 0).any():
            self._report(results, corners, faults)
            kept = np.flatnonzero(faults < 0)
            results.update({key: results[key][kept] for key in PER_OBJECT if key in results})
        return results

    def _report(
        self, results: dict, boxes: NDArray[np.floating], faults: NDArray[np.int64]
    ) -> None:
        for reason in np.unique(faults[faults >= 0]):
            which = np.flatnonzero(faults == reason)
            if self._counts[reason] == 0:
                print_log(
                    f'{_name(results)} has a box {REASONS[reason]}, {_numbers(boxes[which[0]])}. '
                    'It is dropped; further boxes like it are dropped without a message.',
                    logger='current',
                    level=logging.WARNING,
                )
            self._counts[reason] += len(which)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(num_classes={self.num_classes}, '
            f'wrong_labels={self.wrong_labels!r})'
        )


def _name(results: dict) -> str:
    return str(results.get('img_path', f'image {results.get("img_id", "without a name")}'))


def _numbers(box: Sequence[float] | NDArray[np.floating]) -> str:
    return f'[{", ".join(f"{value:g}" for value in box)}]'
