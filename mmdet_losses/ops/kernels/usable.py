"""Objects of a batch that can have a target."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mmdet_losses.ops.boxes import box_center, box_size, clip_boxes, scale_boxes
from mmdet_losses.ops.constant import constant, zero_unless
from mmdet_losses.ops.kernels.launch import gpu_kernels, use_triton


class BoxRule(NamedTuple):
    """What a box needs to have a target: a positive area, a possible size, a place on the map.

    A box with a coordinate that is not finite has an impossible size.
    """

    limit: tuple[float, float]
    """End of the map along x and y."""
    largest: tuple[float, float]
    """Largest width and height, before a clip."""
    region: Literal['clip', 'center', 'overlap']
    """'clip': boxes are clipped to [0, ``limit``] and must have an area then. 'center': the centre
    is in [0, ``limit``). 'overlap': the box has a part in (0, ``limit``)."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Factors of x and y, applied first."""
    fill: tuple[float, float] | None = None
    """Edges, low and high, of boxes that cannot have a target; None keeps their own."""


def usable_objects(
    boxes: Tensor, labels: Tensor, real: Tensor, num_classes: int, rule: BoxRule
) -> tuple[Tensor, Tensor, Tensor]:
    """The boxes on the map, their labels, and which can have a target.

    One launch on a GPU.

    Shape:
        boxes: (B, M, 4) float32 xyxy. labels: (B, M) int64. real: (B, M) bool, slots with an
            annotation.
        Returns scaled and clipped boxes (B, M, 4); labels (B, M), 0 where not usable; usable
        (B, M), true where the box fits ``rule`` and the label is in 0 ... C-1.
    """
    if use_triton(boxes):
        return gpu_kernels('usable').usable_objects(boxes, labels, real, num_classes, rule)
    if rule.scale != (1.0, 1.0):
        boxes = scale_boxes(boxes, *rule.scale)
    size, limit = box_size(boxes), constant(rule.limit, boxes)
    fits = size <= constant(rule.largest, size)
    if rule.region == 'clip':
        boxes = clip_boxes(boxes, *rule.limit)
        fits = fits & (box_size(boxes) > 0)
    elif rule.region == 'center':
        center = box_center(boxes)
        fits = fits & (size > 0) & (center >= 0) & (center < limit)
    else:
        fits = fits & (size > 0) & (boxes[..., 2:] > 0) & (boxes[..., :2] < limit)
    usable = fits.all(-1) & real & (labels == labels.clamp(0, num_classes - 1))
    if rule.fill is not None:
        low, high = rule.fill
        boxes = torch.where(usable[..., None], boxes, constant([low, low, high, high], boxes))
    return boxes, zero_unless(usable, labels), usable
