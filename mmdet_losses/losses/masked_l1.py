"""Masked L1 loss: L1 over the slots that hold an object."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdet_losses.losses.term import LossTerm
from mmdet_losses.ops import Reduction, promote, reduce_loss, zero_unless
from mmdet_losses.registry import MODELS


def masked_l1_loss(
    pred: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    reduction: Reduction = 'mean',
    avg_factor: Tensor | float | None = None,
) -> Tensor:
    r"""L1 distance over the slots that hold an object: the sum of :math:`|p - t|`, divided.

    Shape:
        pred, target: (B, M, D); M object slots, D values each, in feature cells.
        mask: (B, M) or (B, M, D); bool, or float weights as in MMDetection. None counts all.
        Returns a scalar, or (B, M, D) with ``reduction='none'``.

    Convention:
        Empty slots contribute exact zeros (even if they hold NaN) and keep the graph connected.
        The official codes disagree on dividing by objects or by values, so the criterion passes
        ``avg_factor``. Without it 'mean' divides by the number of masked values; with float
        weights by the number of all values, as in MMDetection.

    Example:
        >>> masked_l1_loss(
        ...     torch.ones(1, 2, 2),
        ...     torch.zeros(1, 2, 2),
        ...     torch.tensor([[True, False]]),
        ...     reduction='sum',
        ... )
        tensor(2.)
    """
    distance = masked_difference(pred, target, mask).abs()
    return reduce_masked(distance, mask, reduction, avg_factor)


def masked_difference(pred: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
    """``pred - target``; exact zeros without a gradient where ``mask`` is False or 0."""
    difference = promote(pred) - promote(target)
    if mask is None:
        return difference
    mask = per_value(mask, difference)
    return zero_unless(mask if mask.dtype == torch.bool else mask != 0, difference)


def per_value(mask: Tensor, values: Tensor) -> Tensor:
    """A mask of slots (B, M) as (B, M, 1); a mask of values as it is."""
    return mask[..., None] if mask.shape == values.shape[:-1] else mask


def reduce_masked(
    loss: Tensor,
    mask: Tensor | None,
    reduction: Reduction,
    avg_factor: Tensor | float | None,
) -> Tensor:
    """Reduce losses that are 0 where a bool mask is False, or multiply them by float weights."""
    if mask is None:
        return reduce_loss(loss, reduction, avg_factor)
    mask = per_value(mask, loss)
    if mask.dtype != torch.bool:
        return reduce_loss(loss * mask.to(loss.dtype), reduction, avg_factor)
    count = mask.expand_as(loss).sum() if avg_factor is None else None
    return reduce_loss(loss, reduction, avg_factor, count)


@MODELS.register_module(name=['MaskedL1Loss', 'RegL1Loss'])
class MaskedL1Loss(LossTerm):
    """:func:`masked_l1_loss` as a component, times ``loss_weight``."""

    function = staticmethod(masked_l1_loss)
    regresses = 'deltas'
    fits = ('deltas', 'boxes')
