"""Base of the encoders of YOLOv2, YOLOv3 and YOLOv4: anchors as darknet assigns them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core import PaddedInstances, Size, check_levels, pad_instances
from mmdet_losses.core.types import OutputsT
from mmdet_losses.detectors.yolo.contracts import Grid, GridLevel, GridTargets
from mmdet_losses.detectors.yolo.grid_encoder import GridTargetEncoder
from mmdet_losses.detectors.yolo.grids import Slots, object_slots
from mmdet_losses.ops import constant, shape_iou

Convention = Literal['darknet', 'summary']
"""Formulas of darknet, or of the loss summary, see :mod:`~mmdet_losses.detectors.yolo.summary`."""


def darknet_boxes(
    padded: PaddedInstances, img_size: Size, num_classes: int, smallest: Size | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Ground truth as darknet's loader keeps it.

    Boxes are clipped to the image and their centres computed again. Dropped: boxes that are then
    narrower or lower than ``smallest`` pixels (h, w; default one pixel), boxes outside the image,
    and labels outside 0 ... C-1.

    Returns:
        boxes (B, M, 4) cxcywh fractions, zero where dropped; labels (B, M); mask (B, M).
    """
    height, width = img_size
    scale = constant([width, height], padded.boxes)
    low, high = padded.boxes[..., :2], padded.boxes[..., 2:]
    center, size = (low + high) / 2 / scale, (high - low) / scale
    finite = padded.boxes.isfinite().all(-1) & (size > 0).all(-1)
    low = (center - size / 2).clamp(0, 1)
    high = (center + size / 2).clamp(0, 1)
    boxes = torch.cat(((low + high) / 2, high - low), -1)
    least = constant([1 / width, 1 / height], boxes)
    if smallest is not None:
        least = least * constant([smallest[1], smallest[0]], boxes)
    mask = padded.real & finite & (boxes[..., 2:] >= least).all(-1)
    mask = mask & (padded.labels >= 0) & (padded.labels < num_classes)
    return torch.where(mask[..., None], boxes, 0), padded.labels * mask, mask


class DarknetTargetEncoder(GridTargetEncoder[OutputsT, GridTargets]):
    r"""Assigns an object to the anchor of the most similar shape, in the cell of its centre.

    With the cell :math:`c`, the anchor :math:`p` and raw outputs :math:`t`,

    .. math::

        b_{xy} = c + s\,\sigma(t_{xy}) - (s - 1) / 2, \qquad b_{wh} = p\,e^{t_{wh}}

    or, with ``squared``, :math:`b_{wh} = p\,(2\sigma(t_{wh}))^2`.

    Convention:
        An object gets the best anchor of all maps by the IoU of shapes, however small it is; with
        ``iou_threshold`` below 1 also every anchor above it (strict). Boxes are clipped to the
        image first, and those below one pixel are dropped.

    Args:
        num_classes: C.
        anchors: for each map the (width, height) of its anchors in pixels.
        scale_xy: s of each map, or one number.
        iou_threshold: see above.
        squared: sizes as Scaled-YOLOv4 encodes them.
        max_objects: number of annotations used per image, in their order; None uses all.
        score_thr: :meth:`decode` drops scores that are not above this.
        topk: best (box, class) pairs per image that :meth:`decode` keeps. None keeps all, as
            darknet does; the results of a trained network are the same.

    Encoded:
        :class:`~mmdet_losses.detectors.yolo.contracts.GridTargets`.

    Raises:
        ValueError: invalid anchors, or tables of different lengths.
    """

    def __init__(
        self,
        num_classes: int,
        anchors: Sequence[Sequence[tuple[float, float]]],
        scale_xy: float | Sequence[float] = 1.0,
        iou_threshold: float = 1.0,
        squared: bool = False,
        max_objects: int | None = None,
        score_thr: float = 0.005,
        topk: int | None = 30_000,
    ) -> None:
        super().__init__(num_classes, anchors, score_thr, topk)
        scales = [scale_xy] * len(anchors) if isinstance(scale_xy, int | float) else list(scale_xy)
        if len(scales) != len(anchors):
            raise ValueError(
                f'scale_xy has {len(scales)} entries but anchors {len(anchors)} levels; give one '
                'per level.'
            )
        self.scale_xy, self.iou_threshold, self.squared = scales, iou_threshold, squared
        self.max_objects = max_objects

    def grid(self, level: int, size: Size, img_size: Size, like: Tensor) -> Grid:
        """Cells and anchors of one map."""
        anchors = constant(self.anchors[level], like) / constant(img_size[::-1], like)
        return Grid(anchors, size, self.scale_xy[level], self.squared)

    def encode(
        self, gt_instances: Sequence[InstanceData], feat_sizes: Sequence[Size], img_size: Size
    ) -> GridTargets:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`; inputs are not modified."""
        check_levels(len(feat_sizes), len(self.anchors), 'anchors')
        padded = pad_instances(gt_instances, self.max_objects)
        boxes, labels, mask = darknet_boxes(padded, img_size, self.num_classes)
        grids = [self.grid(i, size, img_size, boxes) for i, size in enumerate(feat_sizes)]
        claims = self._claims(boxes, mask, torch.cat([grid.anchors for grid in grids]))
        levels = []
        for grid, claim in zip(
            grids, claims.split([len(level) for level in self.anchors], 1), strict=True
        ):
            height, width = grid.size
            x = (boxes[..., 0] * width).long().clamp(max=width - 1)
            y = (boxes[..., 1] * height).long().clamp(max=height - 1)
            levels.append(GridLevel(claim, y * width + x, grid))
        return GridTargets(
            boxes=boxes,
            labels=labels,
            mask=mask,
            levels=tuple(levels),
            several=self.iou_threshold < 1,
            num_pos=claims.sum().float(),
            num_dropped=(padded.real.sum() + padded.left_out - mask.sum()).float(),
        )

    def _claims(self, boxes: Tensor, mask: Tensor, anchors: Tensor) -> Tensor:
        """Anchors of all maps that stand for an object: (B, A, M) bool.

        Among anchors of equal IoU the smallest is best, as in darknet.
        """
        order = anchors.prod(-1).argsort(stable=True)
        overlap = shape_iou(boxes[..., 2:], anchors)  # (B, M, A)
        best = order[overlap[..., order].argmax(-1)]
        claims = torch.arange(len(anchors), device=boxes.device) == best[..., None]
        if self.iou_threshold < 1:
            claims = claims | (overlap > self.iou_threshold)
        return (claims & mask[..., None]).transpose(1, 2)

    def slots(self, targets: GridTargets) -> list[Slots]:
        """The (object, anchor) pairs of each map."""
        return [object_slots(level, targets) for level in targets.levels]
