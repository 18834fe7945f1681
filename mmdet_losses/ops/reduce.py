"""Reductions and divisors of losses."""

from __future__ import annotations

from typing import Literal, TypeVar, get_args

import torch
import torch.distributed as dist
from torch import Tensor

from mmdet_losses.ops.choices import check_choice
from mmdet_losses.ops.constant import zero_unless

Reduction = Literal['none', 'mean', 'sum']
REDUCTIONS: tuple[str, ...] = get_args(Reduction)
Count = TypeVar('Count')
EPS = torch.finfo(torch.float32).eps


def reduce_loss(
    loss: Tensor,
    reduction: Reduction = 'mean',
    avg_factor: Tensor | float | None = None,
    count: Tensor | float | None = None,
) -> Tensor:
    """Reduce element-wise losses as MMDetection does.

    Convention:
        The sum is divided exactly. A divisor of 0 counts as float32's epsilon (1.2e-7), so the
        result is finite and equals MMDetection's, which adds this epsilon to every divisor.

    Args:
        loss: losses of any shape, or their sum together with ``count``.
        reduction: 'none' returns ``loss`` itself and ignores ``avg_factor``.
        avg_factor: what 'mean' divides the sum by.
        count: what 'mean' divides by without ``avg_factor``; default the number of elements.

    Raises:
        ValueError: an unknown reduction, or ``avg_factor`` together with 'sum'.
    """
    divisor = divisor_of(reduction, avg_factor, loss.numel() if count is None else count)
    if reduction == 'none':
        return loss
    return loss.sum() if reduction == 'sum' else loss.sum() / nonzero_divisor(divisor)


def nonzero_divisor(divisor: Tensor | float) -> Tensor | float:
    """A divisor, float32's epsilon where it is 0."""
    return divisor.clamp(min=EPS) if isinstance(divisor, Tensor) else max(divisor, EPS)


def divisor_of(
    reduction: Reduction, avg_factor: Tensor | float | None, count: Count
) -> Tensor | float | Count:
    """What :func:`reduce_loss` divides a sum by; 1 unless ``reduction`` is 'mean'."""
    check_choice('reduction', reduction, REDUCTIONS)
    if reduction == 'sum' and avg_factor is not None:
        raise ValueError("avg_factor has no effect with reduction='sum'; remove one of them.")
    if reduction != 'mean':
        return 1
    return count if avg_factor is None else avg_factor


def at_least_one(count: Tensor) -> Tensor:
    """A count as a divisor: 1 where it is 0, so that the sum stays undivided."""
    return count.clamp(min=1)


def positives_divisor(counts: Tensor, normalizer: str, anchors: int = 1) -> Tensor:
    """Divisor of a sum over the batch, from the number of positives per image.

    Shape:
        counts: (B,) integers.
        Returns a scalar, at least 1.

    Args:
        normalizer: 'positives' (their number in the batch), 'positives_all_ranks' (averaged over
            all training processes), 'positives_and_empty_images' (an image without positives
            counts as one), 'positives_and_images' (every image adds one), 'images' (their number),
            'anchors' (their number in the batch) or 'nothing' (1).
        anchors: number of anchors per image.
    """
    images = counts.numel()
    fixed = {'images': images, 'anchors': images * anchors, 'nothing': 1}
    if normalizer in fixed:
        return counts.new_full((), fixed[normalizer], dtype=torch.float32)
    if normalizer == 'positives_and_images':
        return (counts + 1).sum()
    if normalizer == 'positives_and_empty_images':
        return at_least_one(counts).sum()
    count = counts.sum().float()
    return at_least_one(mean_over_ranks(count) if normalizer == 'positives_all_ranks' else count)


def process_count() -> int:
    """Number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean_over_ranks(value: Tensor) -> Tensor:
    """A scalar averaged over all training processes; itself if there is only one."""
    if process_count() == 1:
        return value
    value = value.detach().clone() / process_count()
    dist.all_reduce(value)
    return value


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum over the elements where ``mask`` is true; an empty mask gives a zero with a graph.

    Values outside the mask have no effect, even if they are NaN.
    """
    return zero_unless(mask, values).sum()
