"""IoU and its kinds of paired boxes: the formulas, and the derivatives of the usual ones."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmdet_losses.ops.kernels.launch import gpu_kernels, use_triton

TINY = torch.finfo(torch.float32).tiny
"""Smallest divisor; a quotient with a smaller divisor is 0."""
POINT = 1e-18
"""A box below this share of its hull has no angle: its squares would vanish in float32."""
ASPECT = 4 / math.pi**2
SMOOTH = 0.1
"""MMDetection's ``EIoULoss`` is a square below this."""
WITH_KERNEL = ('iou', 'giou', 'diou', 'ciou')
"""Modes whose derivative is written out; autograd differentiates the others."""


def paired_similarity(
    pred: Tensor, target: Tensor, mode: str, aspect_factor: bool, exponent: float = 1.0
) -> Tensor:
    """Value of :func:`similarity_reference`, and its gradient from few in-place operations.

    Shape:
        pred, target: (..., 4) xyxy of one shape and dtype, at least float32. Returns (...).
    """
    if torch.compiler.is_compiling() or mode not in WITH_KERNEL or exponent != 1:
        return similarity_reference(pred, target, mode, aspect_factor, exponent)
    if use_triton(pred) and not (torch.is_grad_enabled() and target.requires_grad):
        return gpu_kernels('paired_iou').similarity(pred, target, mode, aspect_factor)
    if torch.is_grad_enabled() and (pred.requires_grad or target.requires_grad):
        return _Similarity.apply(pred, target, mode, aspect_factor)
    return _iou(pred, target) if mode == 'iou' else _measure(pred, target, mode)[0]


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """A quotient that is 0, with finite gradients, where the denominator is 0."""
    return numerator / denominator.masked_fill(denominator < TINY, 1)


def _angle(w: Tensor, h: Tensor) -> Tensor:
    """arctan(w / h); 0, without a gradient, where both sides are 0."""
    with torch.no_grad():
        empty = torch.maximum(w, h) < POINT
    return torch.atan2(w.masked_fill(empty, 0), h.masked_fill(empty, 1))


def similarity_reference(
    pred: Tensor, target: Tensor, mode: str, aspect_factor: bool, exponent: float = 1.0
) -> Tensor:
    """The formulas, differentiated by autograd."""
    if mode == 'eiou_mmdet':
        return _smooth_extended_iou(pred, target)
    x1, y1, x2, y2 = pred.unbind(-1)
    x3, y3, x4, y4 = target.unbind(-1)
    hull_w = (torch.maximum(x2, x4) - torch.minimum(x1, x3)).clamp(min=0)
    hull_h = (torch.maximum(y2, y4) - torch.minimum(y1, y3)).clamp(min=0)
    with torch.no_grad():
        reach = torch.maximum(hull_w, hull_h).clamp(min=TINY)
    w, h = (x2 - x1).clamp(min=0) / reach, (y2 - y1).clamp(min=0) / reach
    w_t, h_t = (x4 - x3).clamp(min=0) / reach, (y4 - y3).clamp(min=0) / reach
    inter_w = (torch.minimum(x2, x4) - torch.maximum(x1, x3)).clamp(min=0) / reach
    inter_h = (torch.minimum(y2, y4) - torch.maximum(y1, y3)).clamp(min=0) / reach
    inter = inter_w * inter_h
    union = w * h + w_t * h_t - inter
    iou = _ratio(inter, union)
    powered = iou**exponent
    if mode == 'iou':
        return powered
    hull_w, hull_h = hull_w / reach, hull_h / reach
    if mode == 'giou':
        area = hull_w * hull_h
        return powered - _ratio(area - union, area).clamp(min=0) ** exponent
    off_x, off_y = (
        torch.where(reach > TINY, twice, 0) / reach
        for twice in (x1 - x3 + x2 - x4, y1 - y3 + y2 - y4)
    )
    if mode.startswith('siou'):
        size = torch.stack((w, h)), torch.stack((w_t, h_t))
        cost = _scylla_cost(torch.stack((off_x, off_y)), torch.stack((hull_w, hull_h)), *size, mode)
        return iou - cost if mode == 'siou' else (iou - cost).clamp(-1, 1)
    distance = off_x.square() + off_y.square()
    distance = _ratio(distance, 4 * (hull_w.square() + hull_h.square()))
    diou = powered - distance**exponent
    if mode == 'diou':
        return diou
    if mode == 'eiou':
        return (
            diou
            - _ratio((w - w_t).square(), hull_w.square())
            - _ratio((h - h_t).square(), hull_h.square())
        )
    angle = _angle(w, h)
    if aspect_factor:
        # value zero, derivative (h, -w): that of the angle times w^2 + h^2
        w, h = w * reach, h * reach
        angle = angle.detach() + (w * h.detach() - h * w.detach())
    v = ASPECT * (_angle(w_t, h_t) - angle).square()
    with torch.no_grad():
        alpha = _ratio(v, 1 - iou + v)
    return diou - (alpha * v) ** exponent


def _scylla_cost(off: Tensor, hull: Tensor, size: Tensor, size_t: Tensor, mode: str) -> Tensor:
    """SIoU's distance, which depends on the angle, and shape cost; half of their sum.

    Args:
        off: (2, ...) twice the distance of the centres along x and y; the others are sides.
    """
    angle = _ratio(2 * off.abs().prod(0), off.square().sum(0))  # the sine of twice the angle
    gamma = 2 - angle
    gamma = -gamma if mode == 'siou' else gamma
    rho = _ratio(off.square(), 4 * hull.square())
    distance = (1 - torch.exp(gamma * rho)).sum(0)
    omega = _ratio((size - size_t).abs(), torch.maximum(size, size_t))
    shape = ((1 - torch.exp(-omega)) ** 4).sum(0)
    return (distance + shape) / 2


def _smooth_extended_iou(pred: Tensor, target: Tensor) -> Tensor:
    """1 minus MMDetection's ``EIoULoss``: the overlap of boxes that do not meet is negative."""
    low_p, high_p = pred.unflatten(-1, (2, 2)).unbind(-2)
    low_t, high_t = target.unflatten(-1, (2, 2)).unbind(-2)
    corner = torch.minimum(low_p, low_t)
    with torch.no_grad():
        ends = torch.stack((low_p, low_t, high_p, high_t))
        reach = (ends.amax(0) - ends.amin(0)).amax(-1, keepdim=True).clamp(min=TINY)
    low = (torch.maximum(low_p, low_t) - corner) / reach
    high = (torch.minimum(high_p, high_t) - corner) / reach
    first, last = torch.minimum(low, high), torch.maximum(low, high)
    inter = high.prod(-1) + first.prod(-1) - low[..., 0] * last[..., 1] - last[..., 0] * low[..., 1]
    area, area_t = (
        ((top - bottom) / reach).prod(-1) for bottom, top in ((low_p, high_p), (low_t, high_t))
    )
    cost = 1 - _ratio(inter, area + area_t - inter)
    return 1 - torch.where(cost < SMOOTH, cost.square() / (2 * SMOOTH), cost - SMOOTH / 2)


class _Similarity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pred: Tensor, target: Tensor, mode: str, aspect_factor: bool) -> Tensor:
        value, saved = _measure(pred, target, mode)
        ctx.save_for_backward(*saved)
        ctx.options = (mode, aspect_factor)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients with respect to both box tensors, in closed form."""
        rows, sides, reach, union, iou = ctx.saved_tensors
        mode, aspect_factor = ctx.options
        by_pred = by_target = None
        if ctx.needs_input_grad[0]:
            by_pred = _slope(rows, sides, reach, union, iou, mode, aspect_factor)
            by_pred = by_pred * grad[..., None]
        if ctx.needs_input_grad[1]:  # the aspect factor belongs to the prediction only
            sides = torch.cat((sides[:2].flip(0), sides[2:]))
            by_target = _slope(rows.flip(0), sides, reach, union, iou, mode, False)
            by_target = by_target * grad[..., None]
        return by_pred, by_target, None, None


def _iou(pred: Tensor, target: Tensor) -> Tensor:
    """The IoU without a graph. Each axis is divided by the larger side along it."""
    x1, y1, x2, y2 = pred.unbind(-1)
    x3, y3, x4, y4 = target.unbind(-1)
    parts = []
    for low, high, low_t, high_t in ((x1, x2, x3, x4), (y1, y2, y3, y4)):
        side, side_t = (high - low).clamp_(min=0), (high_t - low_t).clamp_(min=0)
        reach = torch.maximum(side, side_t).clamp_(min=TINY)
        common = torch.minimum(high, high_t).sub_(torch.maximum(low, low_t)).clamp_(min=0)
        parts.append((side.div_(reach), side_t.div_(reach), common.div_(reach)))
    area, area_t, common = (along_x.mul_(along_y) for along_x, along_y in zip(*parts, strict=True))
    return common.div_(area.add_(area_t).sub_(common).clamp_(min=TINY))


def _measure(pred: Tensor, target: Tensor, mode: str) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The similarity and the tensors that its derivative needs, without a graph.

    ``low`` and ``high`` are (2 boxes, x and y, ...). ``sides`` are those of both boxes, of the
    overlap and (except for the IoU) of the hull, divided by the larger side of the hull.
    """
    rows = torch.stack((*pred.unbind(-1), *target.unbind(-1))).unflatten(0, (2, 2, 2))
    low, high = rows.unbind(1)
    (low_p, low_t), (high_p, high_t) = low.unbind(), high.unbind()
    sides = rows.new_empty((3 if mode == 'iou' else 4, 2, *low_p.shape[1:]))
    torch.sub(high, low, out=sides[:2])
    torch.minimum(high_p, high_t, out=sides[2]).sub_(torch.maximum(low_p, low_t))
    if mode == 'iou':
        hull = torch.maximum(sides[0], sides[1])
    else:
        hull = torch.maximum(high_p, high_t, out=sides[3]).sub_(torch.minimum(low_p, low_t))
    reach = torch.maximum(*hull.unbind()).clamp_(min=TINY)
    sides.clamp_(min=0).div_(reach)
    area, area_t, common, *whole = (sides[:, 0] * sides[:, 1]).unbind()
    union = area.add_(area_t).sub_(common)
    iou = common.div_(union.clamp(min=TINY))
    saved = (rows, sides, reach, union, iou)
    if mode == 'iou':
        return iou, saved
    if mode == 'giou':
        return iou - (whole[0] - union).div_(whole[0].clamp(min=TINY)), saved
    value = iou - _distance(low, high, hull, reach)
    if mode == 'diou':
        return value, saved
    v = _aspect_gap(sides).square_().mul_(ASPECT)
    return value.sub_(v * v / (1 - iou + v).clamp_(min=TINY)), saved


def _distance(low: Tensor, high: Tensor, hull: Tensor, reach: Tensor) -> Tensor:
    """Squared distance of the centres over the squared diagonal of the hull."""
    x, y = _offset(low, high, reach).square_().unbind()
    w, h = hull.square().unbind()
    return x.add_(y).div_(w.add_(h).mul_(4).clamp_(min=TINY))


def _offset(low: Tensor, high: Tensor, reach: Tensor) -> Tensor:
    """Twice the distance of the centres along x and y; 0 if inverted boxes have no hull."""
    twice = (low[0] - low[1]).add_(high[0]).sub_(high[1])
    return twice.masked_fill_(reach <= TINY, 0).div_(reach)


def _aspect_gap(sides: Tensor) -> Tensor:
    """Angle of the target minus that of the prediction."""
    angle, angle_t = _angle(*sides[:2].unbind(1)).unbind()
    return angle_t - angle


def _slope(
    rows: Tensor,
    sides: Tensor,
    reach: Tensor,
    union: Tensor,
    iou: Tensor,
    mode: str,
    aspect_factor: bool,
) -> Tensor:
    """Derivative of the similarity by the first box, (..., 4)."""
    (low, low_t), (high, high_t) = (corner.unbind() for corner in rows.unbind(1))
    size, inter, hull = sides[0], sides[2], sides[-1]
    inverse = _inverse(union)
    by_inter, by_area = torch.addcmul(inverse, iou, inverse), (iou * inverse).neg_()
    by_hull = by_center = None
    if mode == 'giou':
        share = _inverse(hull[0] * hull[1])
        by_inter, by_area = by_inter - share, by_area + share
        by_hull = -union * share * share * hull.flip(0)
    elif mode != 'iou':
        offset = _offset(rows[:, 0], rows[:, 1], reach)
        inverse = _inverse(hull.square().sum(0))
        by_center = -0.5 * offset * inverse
        by_hull = 0.5 * offset.square().sum(0) * inverse * inverse * hull
    by_size = by_area * size.flip(0)
    if mode == 'ciou':
        by_size = by_size + _aspect_slope(sides, reach, iou, aspect_factor)
    # an inverted side is clamped, so it has no derivative
    by_size = by_size.masked_fill_(high < low, 0)
    apart = torch.minimum(high, high_t) < torch.maximum(low, low_t)
    by_inter = (by_inter * inter.flip(0)).masked_fill_(apart, 0)
    # Of two coordinates, the inner one changes the overlap and the outer one the hull; equal
    # coordinates get half each.
    moved, shared = by_inter, by_inter
    if by_hull is not None:
        moved, shared = by_inter - by_hull, by_inter + by_hull
    both = torch.add(by_size, shared, alpha=0.5)
    nearer_low, nearer_high = torch.sign(rows[1] - rows[0]).mul_(0.5).unbind()
    by_high = torch.addcmul(both, moved, nearer_high)
    by_low = torch.addcmul(both, moved, nearer_low, value=-1).neg_()
    if by_center is not None:
        by_high, by_low = by_high + by_center, by_low + by_center
    return torch.cat((by_low, by_high)).div_(reach).movedim(0, -1)


def _inverse(value: Tensor) -> Tensor:
    """1 / value; 0 where the value is 0."""
    return value.clamp(min=TINY).reciprocal_().masked_fill_(value < TINY, 0)


def _aspect_slope(sides: Tensor, reach: Tensor, iou: Tensor, aspect_factor: bool) -> Tensor:
    """Derivative of minus alpha v by the sides of the prediction; alpha held fixed."""
    w, h = sides[0].unbind()
    gap = _aspect_gap(sides)
    v = ASPECT * gap.square()
    alpha = v / (1 - iou + v).clamp_(min=TINY)
    factor = 2 * ASPECT * alpha * gap
    if aspect_factor:
        factor = factor * reach.square()
    else:
        empty = torch.maximum(w, h) < POINT
        factor = factor / (w * w + h * h).masked_fill_(empty, math.inf)
    return torch.stack((h * factor, -w * factor))
