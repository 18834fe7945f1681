"""Box terms of darknet's [yolo] layer.

A term takes the raw xy and wh of slots and returns named losses whose gradient is
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
    center_of,
    grid_sizes,
    slot_similarity,
    slot_targets,
)
from mmdet_losses.detectors.yolo.joined import slots_per_map
from mmdet_losses.ops import (
    IoUMode,
    darknet_direction_and_iou,
    darknet_iou,
    masked_sum,
    zero_unless,
)


class BoxWeights(NamedTuple):
    """Weights of the box deltas."""

    normalizer: float
    """``iou_normalizer`` of the cfg."""
    multiplier: Tensor | None
    """(B, A, K) class multiplier of the object; None: 1."""
    share: Tensor | None
    """(B, A, K) divisor of the delta; None: 1."""
    max_delta: float | None
    """Bound of IoU deltas before the division; None does not clip."""

    def times(self, values: Tensor) -> Tensor:
        """Values (B, A, K, D) times normalizer and multiplier."""
        values = values * self.normalizer
        return values if self.multiplier is None else values * self.multiplier[..., None]

    def divided(self, values: Tensor) -> Tensor:
        """Values (B, A, K, D) over the share."""
        return values if self.share is None else values / self.share[..., None]


def squared_term(
    xy: Tensor, wh: Tensor, slots: Slots, weights: BoxWeights, mode: str
) -> dict[str, Tensor]:
    """Binary entropy of the centre and half squares of the raw sizes, weighted by 2 - w h.

    With a grid sensitivity above 1 darknet uses the residual of the scaled sigmoid without a
    chain factor; the value is then half its square. Sizes in the squared form (``new_coords``)
    compare their sigmoid with half the square root of the ratio to the anchor.
    """
    grid, place = slots.grid, slots.place()
    goal_xy, goal_wh = slot_targets(slots)
    if grid.squared:
        goal_wh = (slots.boxes[..., 2:] / place.anchors).clamp(min=0).sqrt() / 2
    weight = weights.times(2 - slots.boxes[..., 2:].prod(-1, keepdim=True))
    weight = zero_unless(slots.mask[..., None], weights.divided(weight))
    size = wh.sigmoid() if grid.squared else wh
    loss_wh = (weight * (goal_wh - size).square()).sum() / 2
    if grid.scale_xy == 1 and not grid.squared:
        entropy = F.binary_cross_entropy_with_logits(xy, goal_xy, reduction='none')
        return {'loss_xy': (weight * entropy).sum(), 'loss_wh': loss_wh}
    score = xy.sigmoid()
    with torch.no_grad():
        residual = goal_xy - place.offset(xy)
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
    cost = 1 - slot_similarity(xy, wh, slots, mode)[..., None]
    cost = weights.divided(weights.times(cost))
    return {'loss_box': masked_sum(cost, slots.mask[..., None])}


def directed_term(
    xy: Tensor, wh: Tensor, slots: Slots, weights: BoxWeights, mode: IoUMode
) -> dict[str, Tensor]:
    """darknet's value and darknet's direction, which is not the gradient of the value.

    The value is the mean of 1 - IoU over the slots of a map, summed over maps (for 'giou' its own
    measure, else the plain IoU). The direction
    (:func:`~mmdet_losses.ops.darknet_iou.darknet_iou_direction`) moves raw centres without the
    factors of sigmoid and grid, is clipped, and is never NaN.
    """
    grid, place, values = slots.grid, slots.place(), torch.cat((xy, wh), -1)
    with torch.no_grad():
        point = place.center(xy)
        if grid.squared:
            size = grid_sizes(wh, place.anchors, True)
        else:
            chain = wh.exp()
            size = chain * place.anchors
        pred = torch.cat((center_of(point, size, grid), size), -1)
        direction, iou = darknet_direction_and_iou(pred, slots.boxes, mode)
        move, resize = direction.split(2, -1)
        if grid.point:  # darknet's rule, which is not the chain rule
            move = move + grid.point * resize
        if not grid.squared:
            resize = resize * chain
        direction = weights.times(torch.cat((move, resize), -1))
        delta = bounded(direction, slots, weights)
        iou = darknet_iou(pred, slots.boxes, 'giou') if mode == 'giou' else iou
        cost = (1 - iou.nan_to_num(0, 0, 0)) / slots_per_map(slots)
        reported = weights.normalizer * masked_sum(cost, slots.mask)
    return {'loss_box': Steer.apply(values.sigmoid() if grid.squared else values, delta, reported)}


def bounded(delta: Tensor, slots: Slots, weights: BoxWeights) -> Tensor:
    """Deltas (B, A, K, D), finite, clipped and divided; zero where a slot holds no object."""
    delta = delta.nan_to_num(0, 0, 0)
    if weights.max_delta is not None:
        delta = delta.clamp(-weights.max_delta, weights.max_delta)
    return zero_unless(slots.mask[..., None], weights.divided(delta))


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
