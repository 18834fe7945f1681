"""Running maximum along one axis on a GPU (corner pooling), forward and backward."""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmdet_losses.ops.kernels.launch import bytes_of, launch

BLOCK = 128


@triton.jit
def _starts(lines, length, step, BLOCK: tl.constexpr):
    """First cells of a block of lines; cells of one line are ``step`` apart."""
    line = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    return line // step * step * length + line % step, line < lines


@triton.jit
def running_max_kernel(x, out_max, lines, length, step, REVERSE: tl.constexpr, BLOCK: tl.constexpr):
    """Maximum of each cell and all cells before it (after it if REVERSE); grid (blocks,)."""
    start, inside = _starts(lines, length, step, BLOCK)
    highest = tl.full([BLOCK], float('-inf'), tl.float32)
    for count in range(length):
        cell = start + (length - 1 - count if REVERSE else count) * step
        value = tl.load(x + cell, mask=inside, other=0.0).to(tl.float32)
        highest = tl.where((value >= highest) | (value != value), value, highest)
        tl.store(out_max + cell, highest.to(out_max.dtype.element_ty), mask=inside)


@triton.jit
def running_max_slope_kernel(
    x, highest, grad, out_slopes, lines, length, step, REVERSE: tl.constexpr, BLOCK: tl.constexpr
):
    """Sum of ``grad`` over the cells whose maximum is at each cell; grid (blocks,)."""
    start, inside = _starts(lines, length, step, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for count in range(length):
        cell = start + (count if REVERSE else length - 1 - count) * step
        total += tl.load(grad + cell, mask=inside, other=0.0).to(tl.float32)
        value = tl.load(x + cell, mask=inside, other=0.0)
        # of equal cells the last one in the order of the maximum gets the gradient
        reached = value == tl.load(highest + cell, mask=inside, other=0.0)
        slope = tl.where(reached, total, 0.0).to(out_slopes.dtype.element_ty)
        tl.store(out_slopes + cell, slope, mask=inside)
        total = tl.where(reached, 0.0, total)


def running_max(x: Tensor, dim: int, reverse: bool) -> Tensor:
    """See :func:`mmdet_losses.networks.corner_pool.running_max`."""
    return _RunningMax.apply(x, dim, reverse)


class _RunningMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, reverse: bool) -> Tensor:
        """One thread per row or column."""
        x = x.detach().contiguous()
        highest = torch.empty_like(x)
        length = x.shape[dim]
        step = math.prod(x.shape[dim % x.dim() + 1 :])
        ctx.layout, ctx.reverse = (x.numel() // length, length, step), reverse
        launch(
            *(running_max_kernel, (triton.cdiv(ctx.layout[0], BLOCK),), x, highest, *ctx.layout),
            REVERSE=reverse,
            BLOCK=BLOCK,
            moved=bytes_of(x, highest),
        )
        ctx.save_for_backward(x, highest)
        return highest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of each running maximum goes to the cell that gave it."""
        x, highest = ctx.saved_tensors
        grad, slopes = grad.contiguous(), torch.empty_like(x)
        launch(
            *(running_max_slope_kernel, (triton.cdiv(ctx.layout[0], BLOCK),)),
            *(x, highest, grad, slopes, *ctx.layout),
            REVERSE=ctx.reverse,
            BLOCK=BLOCK,
            moved=bytes_of(x, highest, grad, slopes),
        )
        return slopes, None, None
