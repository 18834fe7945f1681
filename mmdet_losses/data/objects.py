"""Boxes and what belongs to them, kept together while transforms move and drop them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.structures.bbox import BaseBoxes, HorizontalBoxes
from numpy.typing import NDArray

from mmdet_losses.data.clean import PER_OBJECT
from mmdet_losses.ops import check_choice
from mmdet_losses.registry import TRANSFORMS


def box_array(results: dict) -> NDArray[np.float64]:
    """Boxes (n, 4) of the results, xyxy in pixels of the image."""
    boxes = results['gt_bboxes']
    return np.asarray(boxes.numpy() if isinstance(boxes, BaseBoxes) else boxes, np.float64)


def learned(results: dict) -> NDArray[np.bool_]:
    """(n,) whether an object is learned from, that is, not marked as ignored."""
    ignored = results.get('gt_ignore_flags')
    return np.ones(len(results['gt_bboxes']), bool) if ignored is None else ~ignored


def put_objects(results: dict, boxes: NDArray[np.floating], kept: NDArray) -> None:
    """Replace the boxes and keep some objects. Changes ``results``.

    Args:
        results: of a pipeline, with n objects.
        boxes: (n, 4) new boxes of all objects.
        kept: (n,) bool, or indices of the objects to keep, in their new order.
    """
    kept = np.flatnonzero(kept) if kept.dtype == bool else kept
    rows = {key: results[key][kept] for key in PER_OBJECT[1:] if key in results}
    results.update(rows, gt_bboxes=HorizontalBoxes(boxes[kept].astype(np.float32)))


def join_objects(parts: Sequence[dict]) -> dict:
    """The per-object entries of several results, one behind the other, without the boxes."""
    return {
        key: np.concatenate([part[key] for part in parts])
        for key in PER_OBJECT[1:]
        if all(key in part for part in parts)
    }


@TRANSFORMS.register_module()
class CrowdAnnotations(BaseTransform):
    """Treat ignored objects: crowds of COCO, difficult objects of PASCAL VOC.

    Use behind ``LoadAnnotations``.

    Modified keys: those that belong to objects.

    Args:
        crowd: 'object' learns from them as from any other object, as CornerNet, CornerNet-Lite and
            both CenterNets, which do not read ``iscrowd``; 'drop' removes them, as ssd.pytorch's
            data set and darknet's label files, so they count neither for a crop nor for the
            largest number of objects; 'ignore' keeps them as ignored regions, as MMDetection.
        all_classes: with 'ignore', a region hides the heatmaps of all classes instead of its own.

    Raises:
        ValueError: another value of ``crowd``.
    """

    def __init__(
        self, crowd: Literal['object', 'ignore', 'drop'] = 'ignore', all_classes: bool = False
    ) -> None:
        check_choice('crowd', crowd, ('object', 'ignore', 'drop'))
        self.crowd, self.all_classes = crowd, all_classes

    def transform(self, results: dict) -> dict:
        """See the class."""
        kept = learned(results)
        if self.crowd == 'object':
            results['gt_ignore_flags'] = np.zeros(len(kept), bool)
        elif self.crowd == 'drop' and not kept.all():
            put_objects(results, box_array(results), kept)
        elif self.crowd == 'ignore' and self.all_classes:
            results['gt_bboxes_labels'] = np.where(kept, results['gt_bboxes_labels'], -1)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(crowd={self.crowd!r}, all_classes={self.all_classes})'


@TRANSFORMS.register_module()
class CrowdsAsObjects(CrowdAnnotations):
    """:class:`CrowdAnnotations` with ``crowd='object'``."""

    def __init__(self) -> None:
        super().__init__('object')


@TRANSFORMS.register_module()
class DropIgnored(CrowdAnnotations):
    """:class:`CrowdAnnotations` with ``crowd='drop'``."""

    def __init__(self) -> None:
        super().__init__('drop')
