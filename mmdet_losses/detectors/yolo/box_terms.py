"""Box terms of darknet's [yolo] layer.

A term takes the raw xy and wh of the slots of one map and returns named losses whose gradient is
minus darknet's delta.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_losses.detectors.yolo.grids import (
    Slots,
    cell_offset,
    slot_boxes,
    slot_similarity,
    slot_targets,
)
from mmdet_losses.ops import (
    IoUMode,
    at_least_one,
    darknet_iou,
    darknet_iou_direction,
    masked_sum,
)


class BoxWeights(NamedTuple):
    """Weights of the box deltas of one map."""

    normalizer: float
    """``iou_normalizer`` of the cfg."""
    multiplier: Tensor
    """(B, A, K) class multiplier of the object, or one number."""
    share: Tensor
    """(B, A, K) divisor of the delta, or one number."""
    max_delta: float | None
    """Bound of IoU deltas before the division; None does not clip."""


def squared_term(
    xy: Tensor, wh: Tensor, slots: Slots, weights: BoxWeights, mode: str
) -> dict[str, Tensor]:
    """Binary entropy of the centre and half squares of the raw sizes, weighted by 2 - w h.

    With a grid sensitivity above 1 darknet uses the residual of the scaled sigmoid without a
    chain factor; the value is then half its square. Sizes in the squared form (``new_coords``)
    compare their sigmoid with half the square root of the ratio to the anchor.
    """
    grid = slots.grid
    goal_xy, goal_wh = slot_targets(slots)
    if grid.squared:
        goal_wh = (slots.boxes[..., 2:] / grid.anchors[:, None]).clamp(min=0).sqrt() / 2
    weight = weights.normalizer * weights.multiplier / weights.share
    weight = weight * (2 - slots.boxes[..., 2] * slots.boxes[..., 3])
    weight = torch.where(slots.mask, weight, 0)[..., None]
    size = wh.sigmoid() if grid.squared else wh
    loss_wh = (weight * (goal_wh - size).square() / 2).sum()
    if grid.scale_xy == 1 and not grid.squared:
        entropy = F.binary_cross_entropy_with_logits(xy, goal_xy, reduction='none')
        return {'loss_xy': (weight * entropy).sum(), 'loss_wh': loss_wh}
    score = xy.sigmoid()
    with torch.no_grad():
        residual = goal_xy - cell_offset(xy, grid.scale_xy)
        delta = weight * residual
        reported = (delta * residual).sum() / 2
    return {
        'loss_xy': Steer.apply(score if grid.squared else xy, delta, reported),
        'loss_wh': loss_wh,
    }


def similarity_term(
    xy: Tensor, wh: Tensor, slots: Slots, weights: BoxWeights, mode: IoUMode
) -> dict[str, Tensor]:
    """1 - IoU (or its kind) of the decoded boxes, with its true gradient."""
    cost = 1 - slot_similarity(xy, wh, slots, mode)
    weight = weights.normalizer * weights.multiplier / weights.share
    return {'loss_box': masked_sum(weight * cost, slots.mask)}


def directed_term(
    xy: Tensor, wh: Tensor, slots: Slots, weights: BoxWeights, mode: IoUMode
) -> dict[str, Tensor]:
    """darknet's value and darknet's direction, which is not the gradient of the value.

    The value is the mean of 1 - IoU over the slots (for 'giou' its own measure, else the plain
    IoU). The direction (:func:`~mmdet_losses.ops.darknet_iou.darknet_iou_direction`) moves raw
    centres without the factors of sigmoid and grid, is clipped, and is never NaN.
    """
    grid, values = slots.grid, torch.cat((xy, wh), -1)
    score = values.sigmoid()
    with torch.no_grad():
        pred = slot_boxes(xy, wh, slots)
        chain = torch.ones_like(pred)
        if not grid.squared:
            chain = torch.cat((chain[..., :2], wh.exp()), -1)
            pred = torch.cat((pred[..., :2], wh.exp() * grid.anchors[:, None]), -1)
        weight = (weights.normalizer * weights.multiplier)[..., None]
        direction = darknet_iou_direction(pred, slots.boxes, mode)
        if grid.point:  # darknet's rule, which is not the chain rule
            moves = direction[..., :2] + grid.point * direction[..., 2:]
            direction = torch.cat((moves, direction[..., 2:]), -1)
        delta = bounded(direction * chain * weight, slots, weights)
        iou = darknet_iou(pred, slots.boxes, 'giou' if mode == 'giou' else 'iou')
        total = masked_sum(1 - iou.nan_to_num(0, 0, 0), slots.mask)
        reported = weights.normalizer * total / at_least_one(slots.mask.sum())
    return {'loss_box': Steer.apply(score if grid.squared else values, delta, reported)}


def bounded(delta: Tensor, slots: Slots, weights: BoxWeights) -> Tensor:
    """Deltas (B, A, K, D), finite, clipped and divided; zero where a slot holds no object."""
    delta = delta.nan_to_num(0, 0, 0)
    if weights.max_delta is not None:
        delta = delta.clamp(-weights.max_delta, weights.max_delta)
    return torch.where(slots.mask[..., None], delta / weights.share[..., None], 0)


BoxTerm = Callable[[Tensor, Tensor, Slots, BoxWeights, Any], dict[str, Tensor]]
BOX_TERMS: dict[str, BoxTerm] = {
    'mse': squared_term,
    'autograd': similarity_term,
    'darknet': directed_term,
}


class Steer(torch.autograd.Function):
    """A scalar with the value ``reported`` whose gradient by ``values`` is minus ``delta``."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, delta: Tensor, reported: Tensor) -> Tensor:
        ctx.save_for_backward(delta)
        return reported.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (delta,) = ctx.saved_tensors
        return -grad * delta, None, None
