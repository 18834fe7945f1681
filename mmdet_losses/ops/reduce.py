"""Reductions that divide exactly: no epsilon hides here."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.distributed as dist
from torch import Tensor

from mmdet_losses.ops.choices import check_choice

Reduction = Literal['none', 'mean', 'sum']
REDUCTIONS: tuple[str, ...] = get_args(Reduction)


def reduce_loss(
    loss: Tensor, reduction: Reduction = 'mean', avg_factor: Tensor | float | None = None
) -> Tensor:
    """Reduce element-wise losses as MMDetection does, but divide exactly.

    Args:
        loss: any shape.
        reduction: 'none' returns ``loss`` itself.
        avg_factor: with 'mean', divides the sum; without it the mean runs over all elements, and
            is 0 where there is none.

    Raises:
        ValueError: an unknown reduction, or ``avg_factor`` together with 'sum'.
    """
    check_choice('reduction', reduction, REDUCTIONS)
    if reduction == 'none':
        return loss
    if reduction == 'sum':
        if avg_factor is not None:
            raise ValueError(
                "avg_factor has no meaning with reduction='sum'; leave one of them out."
            )
        return loss.sum()
    if avg_factor is None:
        avg_factor = max(loss.numel(), 1)
    return loss.sum() / avg_factor


def at_least_one(count: Tensor) -> Tensor:
    """A divisor from a count: the official codes leave a sum undivided where nothing counts."""
    return count.clamp(min=1)


def positives_divisor(counts: Tensor, normalizer: str) -> Tensor:
    """Divisor of a sum over the batch, from the number of positives per image.

    Shape:
        counts: (B,) integers.
        Returns a scalar, at least 1.

    Args:
        normalizer: 'positives' (their number in the batch), 'positives_all_ranks' (averaged over
            all training processes) or 'positives_and_empty_images' (an image without positives
            counts as one).
    """
    if normalizer == 'positives_and_empty_images':
        return at_least_one(counts).sum()
    count = counts.sum().float()
    return at_least_one(mean_over_ranks(count) if normalizer == 'positives_all_ranks' else count)


def process_count() -> int:
    """How many processes train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean_over_ranks(value: Tensor) -> Tensor:
    """Average a scalar over all training processes; itself where there is only one."""
    if process_count() == 1:
        return value
    value = value.detach().clone() / process_count()
    dist.all_reduce(value)
    return value


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum where ``mask`` is true; an empty selection gives a zero that keeps the graph.

    Values outside the mask never count, not even as NaN.
    """
    return torch.where(mask, values, values.new_zeros(())).sum()
