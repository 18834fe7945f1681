"""Sigmoid focal loss over classes, summed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmdet_losses.ops.kernels.focal import (
    CHUNK,
    BackgroundFocal,
    FoldedGradient,
    focal_cost,
    focal_cost_and_slope,
)
from mmdet_losses.ops.kernels.heatmap_focal import graph_is_retained
from mmdet_losses.ops.reduce import nonzero_divisor


def class_focal_cost(x: Tensor, labels: Tensor, alpha: float, gamma: float) -> Tensor:
    """The reference: cost of every logit (..., C) for integer labels (...)."""
    own = labels[..., None] == torch.arange(x.shape[-1], device=x.device)
    return torch.where(own, alpha * focal_cost(-x, gamma), (1 - alpha) * focal_cost(x, gamma))


def class_focal_sum(
    x: Tensor | Sequence[Tensor],
    labels: Tensor,
    weight: Tensor | None,
    alpha: float,
    gamma: float,
    divisor: Tensor | float = 1.0,
) -> Tensor:
    """Sum of :func:`class_focal_cost` times ``weight``, divided.

    The gradient is computed together with the value, in chunks that fit into the cache: all logits
    as background first, then the logits of the labels are corrected. Only the gradient is kept.

    Shape:
        x: (..., C), at least float32. labels: (...) int64. weight: (..., 1) or (..., C), or None.
        Or x: maps (B, A * C, H, W), anchor-major; labels, weight: (B, P), in the order of
        :func:`~mmdet_losses.ops.grid.flatten_levels`.
        Returns a scalar.
    """
    if isinstance(x, Tensor):
        if torch.compiler.is_compiling():
            cost = class_focal_cost(x, labels, alpha, gamma)
            total = (cost if weight is None else cost * weight).sum()
            return total / nonzero_divisor(divisor)
        if weight is not None:
            weight = weight.expand(*x.shape[:-1], weight.shape[-1]).flatten(0, -2)[..., None]
        blocks = [_Block(labels.reshape(-1, 1), weight)]
        logits = [x.reshape(-1, x.shape[-1], 1)]
    else:
        logits, blocks = _map_blocks(x, labels, weight)
    return _ClassFocalSum.apply(_Problem(blocks, alpha, gamma, divisor), *logits)


class _Block(NamedTuple):
    """Targets of logits (N, C, L)."""

    labels: Tensor
    """(N, L)."""
    weight: Tensor | None
    """(N, 1, L) or (N, C, L)."""


class _Problem(NamedTuple):
    """All inputs of a loss except the logits."""

    blocks: list[_Block]
    alpha: float
    gamma: float
    divisor: Tensor | float


def _map_blocks(
    maps: Sequence[Tensor], labels: Tensor, weight: Tensor | None
) -> tuple[list[Tensor], list[_Block]]:
    """Maps as (B * A, C, H * W), and their parts of the targets."""
    depth = sum(each[0].numel() for each in maps) // labels.shape[1]
    logits, blocks, start = [], [], 0
    for each in maps:
        cells = each.shape[2:].numel()
        rows = each.shape[1] // depth * cells
        part = slice(start, start + rows)
        logits.append(each.reshape(-1, depth, cells))
        own = None if weight is None else weight[:, part].reshape(-1, 1, cells)
        blocks.append(_Block(labels[:, part].reshape(-1, cells), own))
        start += rows
    return logits, blocks


class _ClassFocalSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, problem: _Problem, *logits: Tensor) -> Tensor:
        """The divided sum; the slopes of the logits are kept for the backward pass."""
        ctx.folded = FoldedGradient()
        divisor = nonzero_divisor(problem.divisor)
        if isinstance(divisor, Tensor) and divisor.device.type == 'cpu':
            divisor = float(divisor)
        factor = ctx.folded.expected / divisor
        total, slopes = logits[0].new_zeros(()), []
        for x, block in zip(logits, problem.blocks, strict=True):
            x = x.detach().contiguous()
            slopes.append(torch.empty_like(x))
            total += _add_block(x, slopes[-1], block, problem, factor)
        ctx.save_for_backward(*slopes)
        return total / divisor

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        slopes, rest = ctx.saved_tensors, ctx.folded.rest(grad)
        if graph_is_retained():  # keep the slopes for the next backward; otherwise reuse them
            slopes = [each.clone() for each in slopes]
        return None, *(each if rest is None else each.mul_(rest) for each in slopes)


def _add_block(
    x: Tensor, slopes: Tensor, block: _Block, problem: _Problem, factor: Tensor | float
) -> Tensor:
    """Sum over logits (N, C, L); writes the derivative times ``factor`` to ``slopes``."""
    alpha, gamma, weight = problem.alpha, problem.gamma, block.weight
    weight = None if weight is None else weight.detach().to(x)
    parts = list(_parts(x.shape))
    size = max((x[part].numel() for part in parts), default=0)
    background = BackgroundFocal(x, size, gamma)
    ones = [weight is None] * len(x)
    if weight is not None and weight.device.type == 'cpu':
        ones = (weight == 1).flatten(1).all(1).tolist()
    total = x.new_zeros(())
    for part in parts:
        here = None
        if weight is not None and not all(ones[part[0]]):
            here = weight[part if weight.shape[1] > 1 else part[0]]
        total += background(x[part], slopes[part], factor * (1 - alpha), weight=here)
    total *= 1 - alpha
    is_object = block.labels < x.shape[1]
    if x.device.type == 'cpu':
        row, cell = is_object.nonzero(as_tuple=True)
    else:  # all entries, because a selection would synchronise
        row, cell = (torch.arange(n, device=x.device) for n in block.labels.shape)
        row = row[:, None]
    here, label = is_object[row, cell], block.labels[row, cell].clamp(max=x.shape[1] - 1)
    own = row, label, cell
    low, _ = focal_cost_and_slope(x[own], gamma)
    high, slope = focal_cost_and_slope(-x[own], gamma)
    cost, slope = alpha * high - (1 - alpha) * low, slope.mul_(-alpha * factor)
    if weight is not None:
        scale = weight[own if weight.shape[1] > 1 else (row, 0, cell)]
        cost, slope = cost * scale, slope * scale
    slopes[own] = torch.where(here, slope, slopes[own])
    return total + torch.where(here, cost, 0).sum()


def _parts(shape: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    """Contiguous parts of logits (N, C, L) of about :data:`CHUNK` logits."""
    blocks, classes, cells = shape
    if not blocks * classes * cells:
        return
    step = max(1, CHUNK // (classes * cells))
    rows = classes if step > 1 else max(1, CHUNK // cells)
    for start in range(0, blocks, step):
        for row in range(0, classes, rows):
            yield slice(start, start + step), slice(row, row + rows)
