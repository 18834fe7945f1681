"""Sigmoid focal loss over classes, summed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmdet_losses.ops.kernels.focal import focal_cost, focal_cost_and_slope


def class_focal_cost(x: Tensor, labels: Tensor, alpha: float, gamma: float) -> Tensor:
    """The reference: cost of every logit (..., C) for integer labels (...)."""
    own = labels[..., None] == torch.arange(x.shape[-1], device=x.device)
    return torch.where(own, alpha * focal_cost(-x, gamma), (1 - alpha) * focal_cost(x, gamma))


def class_focal_sum(
    x: Tensor, labels: Tensor, weight: Tensor | None, alpha: float, gamma: float
) -> Tensor:
    """Sum of :func:`class_focal_cost` times ``weight``.

    The gradient is computed together with the value, in chunks of rows: all logits as background
    first, then the logits of the labels are corrected. Only the inputs and the gradient are kept.

    Shape:
        x: (..., C), at least float32. labels: (...) int64. weight: (..., 1) or (..., C), or None.
        Returns a scalar.
    """
    if torch.compiler.is_compiling():
        cost = class_focal_cost(x, labels, alpha, gamma)
        return (cost if weight is None else cost * weight).sum()
    return _ClassFocalSum.apply(x, labels, weight, alpha, gamma)


class _ClassFocalSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, labels: Tensor, weight: Tensor | None, alpha: float, gamma: float
    ) -> Tensor:
        ctx.save_for_backward(x, labels, weight)
        ctx.constants = (alpha, gamma)
        total, ctx.slopes = _sum_and_slopes(x, labels, weight, alpha, gamma)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        slopes, ctx.slopes = ctx.slopes, None
        if slopes is None:  # a second backward through a retained graph
            _, slopes = _sum_and_slopes(*ctx.saved_tensors, *ctx.constants)
        return slopes.mul_(grad), None, None, None, None


def _sum_and_slopes(
    x: Tensor, labels: Tensor, weight: Tensor | None, alpha: float, gamma: float
) -> tuple[Tensor, Tensor]:
    shape, classes = x.shape, x.shape[-1]
    x, label = x.detach().contiguous().view(-1, classes), labels.reshape(-1, 1)
    if weight is not None:
        weight = weight.detach().expand(*shape[:-1], weight.shape[-1]).flatten(0, -2).to(x)
    slopes, total = torch.empty_like(x), x.new_zeros(())
    chunk = max(1, (1 << (16 if x.device.type == 'cpu' else 24)) // max(classes, 1))
    for start in range(0, len(x), chunk):
        part = slice(start, start + chunk)
        cost, slope = focal_cost_and_slope(x[part], gamma, out=slopes[part])
        scale = 1 - alpha if weight is None else (1 - alpha) * weight[part]
        total += cost.mul_(scale).sum()
        slope.mul_(scale)
    own = label.clamp(max=classes - 1)
    logit = x.gather(1, own)
    low, low_slope = focal_cost_and_slope(logit, gamma)
    high, high_slope = focal_cost_and_slope(-logit, gamma)
    cost = alpha * high - (1 - alpha) * low
    slope = -alpha * high_slope - (1 - alpha) * low_slope
    if weight is not None:
        scale = weight if weight.shape[1] == 1 else weight.gather(1, own)
        cost, slope = cost * scale, slope * scale
    is_object = label < classes
    total += torch.where(is_object, cost, 0).sum()
    return total, slopes.scatter_add_(1, own, torch.where(is_object, slope, 0)).view(shape)
