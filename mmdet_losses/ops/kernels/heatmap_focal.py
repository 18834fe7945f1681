"""Penalty-reduced focal loss of heatmaps, summed per image."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmdet_losses.ops.kernels.focal import (
    CHUNK,
    BackgroundFocal,
    FoldedGradient,
    focal_cost,
    focal_cost_and_slope,
    power,
)
from mmdet_losses.ops.precision import promote
from mmdet_losses.ops.splats import Splats

Bounds = tuple[float, float] | None


def heatmap_focal_cost(x: Tensor, t: Tensor, alpha: float, beta: float) -> Tensor:
    """The reference: cost of every cell of the logits ``x`` for the target ``t`` in [0, 1]."""
    positive = focal_cost(-x, alpha)
    negative = power(1 - t, beta) * focal_cost(x, alpha)
    return torch.where(t == 1, positive, negative)


def heatmap_focal_sums(
    logits: Tensor,
    target: Tensor | Splats,
    weight: Tensor | None,
    alpha: float,
    beta: float,
    bounds: Bounds,
    divisor: Tensor | float = 1.0,
) -> Tensor:
    """Sum of :func:`heatmap_focal_cost` times ``weight`` over each image.

    The gradient is computed together with the value, in chunks that fit into the cache. Only the
    gradient is kept for backward, and half precision is promoted chunk by chunk. Splats are
    summed as background first; then the few cells that they cover are corrected.

    Shape:
        logits: (B, C, H, W), or (N, C) as one image.
        target: the same shape, or listed splats of it.
        weight: the same shape, or None.
        Returns (B,), at least float32.

    Args:
        bounds: clamp logits to this range; the gradient outside is exactly 0.
        divisor: what the sums are divided by afterwards, a positive number or one per image (B,);
            the gradient that is computed with the value includes it.
    """
    if logits.dim() == 2 and isinstance(target, Tensor):
        logits, target = logits[None], target[None]
        weight = None if weight is None else weight[None]
    if torch.compiler.is_compiling():
        return _eager_sums(promote(logits), target, weight, alpha, beta, bounds)
    args: tuple[Any, ...]
    if isinstance(target, Splats):
        args = (target.index, target.value, weight, alpha, beta, bounds, divisor)
    else:
        args = (None, target, weight, alpha, beta, bounds, divisor)
    return _HeatmapFocalSums.apply(logits, *args)


def _eager_sums(
    x: Tensor,
    target: Tensor | Splats,
    weight: Tensor | None,
    alpha: float,
    beta: float,
    bounds: Bounds,
) -> Tensor:
    """The same sums for torch.compile, which fuses them."""
    x = x if bounds is None else x.clamp(*bounds)
    if not isinstance(target, Splats):
        cost = heatmap_focal_cost(x, target.to(x.dtype), alpha, beta)
        return (cost if weight is None else cost * weight).flatten(1).sum(1)
    background = focal_cost(x, alpha)
    cells, t = x.reshape(-1)[target.index], target.value.to(x.dtype)
    correction = heatmap_focal_cost(cells, t, alpha, beta) - focal_cost(cells, alpha)
    if weight is not None:
        background = background * weight
        correction = correction * weight.reshape(-1)[target.index]
    correction = torch.where(t > 0, correction, 0)
    image = target.index // math.prod(target.shape[1:])
    return background.flatten(1).sum(1).index_add(0, image, correction)


class _HeatmapFocalSums(torch.autograd.Function):
    """The fused sums; ``index`` is None for a dense target ``value``."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        index: Tensor | None,
        value: Tensor,
        weight: Tensor | None,
        alpha: float,
        beta: float,
        bounds: Bounds,
        divisor: Tensor | float,
    ) -> Tensor:
        """Sums (B,); the slopes of the logits are kept for the backward pass."""
        x = logits.detach().contiguous()
        slopes = torch.empty_like(x, dtype=promote(x.new_empty(0)).dtype)
        if weight is not None:
            weight = weight.detach().contiguous()
            if weight.dtype != torch.bool:  # a bool stays one byte per cell
                weight = weight.to(slopes.dtype)
        dense = None if index is not None else value.detach().to(slopes.dtype).contiguous()
        ctx.folded, ctx.dtype = FoldedGradient(), logits.dtype
        factor = slopes.new_full((len(x),), ctx.folded.expected) / divisor
        ctx.folded.expected = factor
        sums = _sum_cells(x, slopes, factor, dense, weight, alpha, beta, bounds)
        if index is not None:
            _correct_splats(x, slopes, factor, sums, index, value, weight, alpha, beta, bounds)
        ctx.save_for_backward(slopes)
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        rest = ctx.folded.rest(grad)
        if graph_is_retained():  # keep the slopes for the next backward; otherwise reuse them
            slopes = slopes.clone()
        if rest is not None:
            slopes.mul_(rest.view(-1, *[1] * (slopes.dim() - 1)))
        return (slopes.to(ctx.dtype), *[None] * 7)


def graph_is_retained() -> bool:
    """Whether the running backward pass retains its graph; True if PyTorch does not tell."""
    ask = getattr(torch._C._autograd, '_get_current_graph_task_keep_graph', None)
    return ask is None or ask()


def _chunk_size(x: Tensor) -> int:
    """1/16 of the map, which is little memory and few launches; on a CPU it fits the cache."""
    size = max(1 << 16, x.numel() // 16)
    return min(size, CHUNK) if x.device.type == 'cpu' else size


def _sum_cells(
    x: Tensor,
    slopes: Tensor,
    factors: Tensor,
    dense: Tensor | None,
    weight: Tensor | None,
    alpha: float,
    beta: float,
    bounds: Bounds,
) -> Tensor:
    """Sums per image, (B,); writes the gradient times ``factors`` (B,) to ``slopes``.

    Background only without a target.
    """
    sums, chunk = slopes.new_zeros(len(x)), _chunk_size(x)
    flat_x, flat_slopes = x.flatten(1), slopes.flatten(1)
    flat_t = None if dense is None else dense.flatten(1)
    flat_weight = None if weight is None else weight.flatten(1)
    background = BackgroundFocal(slopes, min(chunk, flat_x.shape[1]), alpha)
    on_cpu = x.device.type == 'cpu' and type(x) is Tensor
    for image, factor in enumerate(factors.tolist() if on_cpu else factors.unbind()):
        for start in range(0, flat_x.shape[1], chunk):
            part = (image, slice(start, start + chunk))
            logit, slope = promote(flat_x[part]), flat_slopes[part]
            weigh = None if flat_weight is None else flat_weight[part]
            if flat_t is None:
                sums[image] += background(logit, slope, factor, bounds, weigh)
                continue
            t = flat_t[part]
            cost, _ = focal_cost_and_slope(logit, alpha, bounds, out=slope)
            positive, opposite = focal_cost_and_slope(-logit, alpha, _negated(bounds))
            penalty = power(1 - t, beta)
            cost = torch.where(t == 1, positive, cost.mul_(penalty))
            slope.copy_(torch.where(t == 1, opposite.neg_(), penalty.mul_(slope)))
            slope.mul_(factor if weigh is None else weigh * factor)
            sums[image] += (cost if weigh is None else cost.mul_(weigh)).sum()
    return sums


def _correct_splats(
    x: Tensor,
    slopes: Tensor,
    factors: Tensor,
    sums: Tensor,
    index: Tensor,
    value: Tensor,
    weight: Tensor | None,
    alpha: float,
    beta: float,
    bounds: Bounds,
) -> None:
    """Replace background by the target at the splats, in ``slopes`` and ``sums``."""
    chunk = _chunk_size(x) // 4
    for place, t in zip(index.split(chunk), value.split(chunk), strict=True):
        cells = promote(x.view(-1)[place])
        t = t.to(cells.dtype)
        cost, slope = focal_cost_and_slope(cells, alpha, bounds)
        positive, opposite = focal_cost_and_slope(-cells, alpha, _negated(bounds))
        penalty = power(1 - t, beta)
        cost = torch.where(t == 1, positive - cost, (penalty - 1) * cost)
        slope = torch.where(t == 1, -opposite, penalty * slope)
        if weight is not None:
            here = weight.view(-1)[place]
            cost, slope = cost * here, slope * here
        empty = t == 0  # padding points at cell 0, whose logit may have any value
        image = place // math.prod(x.shape[1:])
        # from the stored number, because rounding it must not change the small slope at a peak
        change = slope * factors[image] - slopes.view(-1)[place]
        slopes.view(-1).index_add_(0, place, change.masked_fill_(empty, 0))
        sums.index_add_(0, image, cost.masked_fill_(empty, 0))


def _negated(bounds: Bounds) -> Bounds:
    return None if bounds is None else (-bounds[1], -bounds[0])
