"""IoU of boxes, of sizes, and of the predictions of a map with objects."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdet_losses.ops.constant import constant, zero_unless


def exact_ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """``numerator / denominator`` where the denominator is positive, else the numerator.

    In this module a zero denominator has a zero numerator, so 0 / 0 is 0 with finite gradients.
    """
    return numerator / torch.where(denominator > 0, denominator, constant(1, denominator))


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of every box with every box: (..., N, 4) and (..., M, 4) xyxy to (..., N, M).

    No epsilon; 0 / 0 is 0.
    """
    first, second = first[..., :, None, :], second[..., None, :, :]
    width = torch.minimum(first[..., 2], second[..., 2]) - torch.maximum(
        first[..., 0], second[..., 0]
    )
    height = torch.minimum(first[..., 3], second[..., 3]) - torch.maximum(
        first[..., 1], second[..., 1]
    )
    inter = width.clamp(min=0) * height.clamp(min=0)
    area_first = (first[..., 2] - first[..., 0]) * (first[..., 3] - first[..., 1])
    area_second = (second[..., 2] - second[..., 0]) * (second[..., 3] - second[..., 1])
    return exact_ratio(inter, area_first + area_second - inter)


def shape_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of sizes with a common centre: (..., N, 2) and (..., M, 2) to (..., N, M)."""
    smaller = torch.minimum(first[..., :, None, :], second[..., None, :, :])
    inter = smaller[..., 0] * smaller[..., 1]
    area_first, area_second = first[..., 0] * first[..., 1], second[..., 0] * second[..., 1]
    union = area_first[..., :, None] + area_second[..., None, :] - inter
    return exact_ratio(inter, union)


BLOCK = 2**17
"""Number of (object, prediction) pairs of a block on a CPU: its intermediate results fit into the
cache."""


def best_match(center: Tensor, size: Tensor, boxes: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Highest IoU of each prediction of a map with any object of its image; no gradient.

    Shape:
        center, size: (B, A, 2, N). boxes: (B, M, 4) cxcywh in the same unit. mask: (B, M) bool.
        Returns the IoU (B, A, N), 0 where nothing overlaps or the image has no object, and the
        index of the object (B, A, N) int64.
    """
    best, index = _map_iou(center, size, boxes, mask).max(1)
    shape = (size.shape[1], size.shape[3])
    return best.unflatten(1, shape), index.unflatten(1, shape)


def best_overlap(center: Tensor, size: Tensor, boxes: Tensor, mask: Tensor) -> Tensor:
    """The IoU of :func:`best_match` alone, which is faster: (B, A, N)."""
    anchors, cells = size.shape[1], size.shape[3]
    step = cells
    if size.device.type == 'cpu' and not torch.compiler.is_compiling():
        step = max(1, BLOCK // max(1, mask.numel() * anchors))
    blocks = zip(center.split(step, 3), size.split(step, 3), strict=True)
    best = [_map_iou(*each, boxes, mask).amax(1).unflatten(1, (anchors, -1)) for each in blocks]
    return best[0] if len(best) == 1 else torch.cat(best, 2)


def _map_iou(center: Tensor, size: Tensor, boxes: Tensor, mask: Tensor) -> Tensor:
    """IoU of every object with every prediction: (B, M, A * N)."""
    with torch.no_grad():
        low, high = (
            torch.add(center, size, alpha=each).transpose(1, 2).flatten(2).unsqueeze(2)
            for each in (-0.5, 0.5)
        )  # (B, 2, 1, A * N)
        boxes = zero_unless(mask[..., None], boxes).transpose(1, 2).unsqueeze(-1)
        middle, extent = boxes[:, :2], boxes[:, 2:]  # (B, 2, M, 1)
        low_t, high_t = (torch.add(middle, extent, alpha=each) for each in (-0.5, 0.5))
        side = torch.minimum(high, high_t).sub_(torch.maximum(low, low_t)).clamp_(min=0)
        inter = side[:, 0].mul_(side[:, 1])
        area = size.prod(2).flatten(1).unsqueeze(1)
        union = (area + extent.prod(1)).sub_(inter)
        # without an overlap 0, also if the union is 0
        return inter.div_(union.clamp_(min=torch.finfo(union.dtype).tiny))
