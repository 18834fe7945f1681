"""IoU of paired boxes on a GPU: value and gradient in one launch.

The formulas are those of :mod:`mmdet_losses.ops.kernels.paired_iou`; each lane has one pair.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmdet_losses.ops.kernels.launch import bytes_of, launch

BLOCK = 256
TINY = tl.constexpr(1.1754943508222875e-38)
ASPECT = tl.constexpr(0.4052847345693511)  # 4 / pi^2
POINT = tl.constexpr(1e-18)


@triton.jit
def angle_of(w, h):
    """arctan(w / h) of sides of at least 0; 0 for a point."""
    larger = tl.maximum(w, h)
    point = larger < POINT
    ratio = tl.minimum(w, h) / tl.where(point, 1.0, larger)
    # arctan(r) = pi / 4 + arctan((r - 1) / (r + 1)); the series is accurate below tan(pi / 8)
    turned = ratio > 0.4142135623730951
    z = tl.where(turned, (ratio - 1.0) / (ratio + 1.0), ratio)
    q = z * z
    series = -0.138776856032 + q * 0.0805374449538
    angle = z + z * q * (-0.333329491539 + q * (0.199777106478 + q * series))
    angle = tl.where(turned, angle + 0.7853981633974483, angle)
    angle = tl.where(w > h, 1.5707963267948966 - angle, angle)
    return tl.where(point, 0.0, angle)


@triton.jit
def _ratio(numerator, denominator):
    return numerator / tl.maximum(denominator, TINY)


@triton.jit
def _inverse(value):
    """1 / value; 0 where the value is 0."""
    return tl.where(value < TINY, 0.0, 1.0 / tl.maximum(value, TINY))


@triton.jit
def _axis(low, high, low_t, high_t):
    """Sides of both boxes, of the overlap and of the hull along one axis, unscaled."""
    common = tl.minimum(high, high_t) - tl.maximum(low, low_t)
    return high - low, high_t - low_t, common, tl.maximum(high, high_t) - tl.minimum(low, low_t)


@triton.jit
def _slopes(low, high, low_t, high_t, by_size, by_inter, by_hull, by_center, reach):
    """Derivative by ``low`` and ``high`` of one axis, from the derivatives by the sides."""
    by_size = tl.where(high < low, 0.0, by_size)  # an inverted side is clamped
    apart = tl.minimum(high, high_t) < tl.maximum(low, low_t)
    by_inter = tl.where(apart, 0.0, by_inter)
    # the inner coordinate changes the overlap, the outer one the hull; equal ones get half each
    moved, both = by_inter - by_hull, by_size + 0.5 * (by_inter + by_hull)
    nearer_low = 0.5 * ((low_t > low).to(tl.float32) - (low_t < low).to(tl.float32))
    nearer_high = 0.5 * ((high_t > high).to(tl.float32) - (high_t < high).to(tl.float32))
    by_low = by_center - (both - moved * nearer_low)
    by_high = by_center + (both + moved * nearer_high)
    return by_low / reach, by_high / reach


@triton.jit
def _load(boxes, pair, inside):
    """The four coordinates; a unit box outside the tensor."""
    x1 = tl.load(boxes + 4 * pair, mask=inside, other=0.0)
    y1 = tl.load(boxes + 4 * pair + 1, mask=inside, other=0.0)
    x2 = tl.load(boxes + 4 * pair + 2, mask=inside, other=1.0)
    y2 = tl.load(boxes + 4 * pair + 3, mask=inside, other=1.0)
    return x1, y1, x2, y2


@triton.jit
def _store(slopes, pair, inside, by_x1, by_y1, by_x2, by_y2):
    tl.store(slopes + 4 * pair, by_x1, mask=inside)
    tl.store(slopes + 4 * pair + 1, by_y1, mask=inside)
    tl.store(slopes + 4 * pair + 2, by_x2, mask=inside)
    tl.store(slopes + 4 * pair + 3, by_y2, mask=inside)


@triton.jit
def _aspect(w, h, w_t, h_t, iou, reach, ASPECT_FACTOR: tl.constexpr):
    """Aspect term of the CIoU, and the derivatives of its negative by w and h."""
    gap = angle_of(w_t, h_t) - angle_of(w, h)
    v = ASPECT * gap * gap
    alpha = _ratio(v, 1.0 - iou + v)
    factor = 2.0 * ASPECT * alpha * gap
    if ASPECT_FACTOR:
        factor *= reach * reach
    else:
        point = tl.maximum(w, h) < POINT
        factor = tl.where(point, 0.0, factor / tl.where(point, 1.0, w * w + h * h))
    return alpha * v, h * factor, -w * factor


@triton.jit
def pair_kernel(
    pred,
    target,
    out_value,
    out_slopes,
    pairs,
    MODE: tl.constexpr,
    ASPECT_FACTOR: tl.constexpr,
    SLOPES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Similarity of a block of pairs, and its derivative by ``pred``; grid (blocks,)."""
    pair = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pair < pairs
    x1, y1, x2, y2 = _load(pred, pair, inside)
    x3, y3, x4, y4 = _load(target, pair, inside)
    w, w_t, inter_w, hull_w = _axis(x1, x2, x3, x4)
    h, h_t, inter_h, hull_h = _axis(y1, y2, y3, y4)
    if MODE == 'iou':
        reach = tl.maximum(tl.maximum(w, w_t), tl.maximum(h, h_t))
    else:
        reach = tl.maximum(hull_w, hull_h)
    reach = tl.maximum(reach, TINY)
    w, h = tl.maximum(w, 0.0) / reach, tl.maximum(h, 0.0) / reach
    w_t, h_t = tl.maximum(w_t, 0.0) / reach, tl.maximum(h_t, 0.0) / reach
    inter_w, inter_h = tl.maximum(inter_w, 0.0) / reach, tl.maximum(inter_h, 0.0) / reach
    hull_w, hull_h = tl.maximum(hull_w, 0.0) / reach, tl.maximum(hull_h, 0.0) / reach
    common = inter_w * inter_h
    union = w * h + w_t * h_t - common
    iou = _ratio(common, union)
    inverse = _inverse(union)
    by_inter, by_area = inverse + iou * inverse, -iou * inverse
    value, by_w, by_h, by_hull_w, by_hull_h, by_x, by_y = iou, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    if MODE == 'giou':
        whole = hull_w * hull_h
        value = iou - _ratio(whole - union, whole)
        share = _inverse(whole)
        by_inter, by_area = by_inter - share, by_area + share
        by_hull_w, by_hull_h = -union * share * share * hull_h, -union * share * share * hull_w
    elif MODE != 'iou':
        off_x = tl.where(reach <= TINY, 0.0, x1 - x3 + x2 - x4) / reach
        off_y = tl.where(reach <= TINY, 0.0, y1 - y3 + y2 - y4) / reach
        distance, diagonal = off_x * off_x + off_y * off_y, hull_w * hull_w + hull_h * hull_h
        value = iou - _ratio(distance, 4.0 * diagonal)
        share = _inverse(diagonal)
        by_x, by_y = -0.5 * off_x * share, -0.5 * off_y * share
        by_hull_w = 0.5 * distance * share * share * hull_w
        by_hull_h = 0.5 * distance * share * share * hull_h
    if MODE == 'ciou':
        penalty, by_w, by_h = _aspect(w, h, w_t, h_t, iou, reach, ASPECT_FACTOR)
        value -= penalty
    tl.store(out_value + pair, value, mask=inside)
    if SLOPES:
        by_w, by_h = by_w + by_area * h, by_h + by_area * w
        by_x1, by_x2 = _slopes(x1, x2, x3, x4, by_w, by_inter * inter_h, by_hull_w, by_x, reach)
        by_y1, by_y2 = _slopes(y1, y2, y3, y4, by_h, by_inter * inter_w, by_hull_h, by_y, reach)
        _store(out_slopes, pair, inside, by_x1, by_y1, by_x2, by_y2)


def similarity(pred: Tensor, target: Tensor, mode: str, aspect_factor: bool) -> Tensor:
    """:func:`~mmdet_losses.ops.kernels.paired_similarity` with a gradient for ``pred`` only."""
    return _Similarity.apply(pred, target, mode, aspect_factor)


class _Similarity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pred: Tensor, target: Tensor, mode: str, aspect_factor: bool) -> Tensor:
        """Value and slopes in one launch."""
        pred, target = pred.detach().contiguous(), target.detach().contiguous()
        value = pred.new_empty(pred.shape[:-1])
        slopes = torch.empty_like(pred) if ctx.needs_input_grad[0] else None
        launch(
            *(pair_kernel, (triton.cdiv(value.numel(), BLOCK),)),
            *(pred, target, value, slopes, value.numel()),
            MODE=mode,
            ASPECT_FACTOR=aspect_factor,
            SLOPES=slopes is not None,
            BLOCK=BLOCK,
            moved=bytes_of(pred, target, value, slopes),
        )
        ctx.save_for_backward(slopes)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        return slopes * grad[..., None], None, None, None
