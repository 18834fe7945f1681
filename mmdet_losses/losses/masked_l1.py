"""Masked L1: regression read at the cells where objects are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmdet_losses.ops import REDUCTIONS, Reduction, at_least_one, check_choice, promote
from mmdet_losses.registry import MODELS


def reduce_masked(
    loss: Tensor, mask: Tensor, reduction: Reduction, avg_factor: Tensor | float | None
) -> Tensor:
    """Reduce element-wise losses over the elements of ``mask``, dividing exactly.

    'mean' without ``avg_factor`` divides by the number of masked elements (at least 1).
    """
    check_choice('reduction', reduction, REDUCTIONS)
    mask = mask.expand_as(loss)
    loss = torch.where(mask, loss, loss.new_zeros(()))
    if reduction == 'none':
        return loss
    if reduction == 'sum':
        return loss.sum()
    return loss.sum() / (at_least_one(mask.sum()) if avg_factor is None else avg_factor)


def slot_mask(mask: Tensor, pred: Tensor) -> Tensor:
    """A mask of slots (B, M) or of elements (B, M, D) as one that broadcasts to ``pred``."""
    mask = mask.bool()
    return mask[..., None] if mask.dim() == pred.dim() - 1 else mask


def masked_l1_loss(
    pred: Tensor,
    target: Tensor,
    mask: Tensor,
    *,
    reduction: Reduction = 'mean',
    avg_factor: Tensor | float | None = None,
) -> Tensor:
    r"""L1 distance over the slots that hold an object: the sum of :math:`|p - t|`, divided.

    Shape:
        pred, target: (B, M, D); M object slots, D values each, in feature cells.
        mask: (B, M) bool, or (B, M, D) to choose single values.
        Returns a scalar, or (B, M, D) with ``reduction='none'``.

    Convention:
        Empty slots contribute exact zeros (even where they hold NaN) and keep the graph
        connected. The official codes disagree on dividing by objects or by values, so the
        criterion passes ``avg_factor``; without it 'mean' divides by the masked values.

    Example:
        >>> masked_l1_loss(
        ...     torch.ones(1, 2, 2),
        ...     torch.zeros(1, 2, 2),
        ...     torch.tensor([[True, False]]),
        ...     reduction='sum',
        ... )
        tensor(2.)
    """
    distance = (promote(pred) - promote(target)).abs()
    return reduce_masked(distance, slot_mask(mask, pred), reduction, avg_factor)


@MODELS.register_module(name=['MaskedL1Loss', 'RegL1Loss'])
class MaskedL1Loss(nn.Module):
    """:func:`masked_l1_loss` as a component, times ``loss_weight``."""

    def __init__(self, reduction: Reduction = 'mean', loss_weight: float = 1.0) -> None:
        super().__init__()
        check_choice('reduction', reduction, REDUCTIONS)
        self.reduction, self.loss_weight = reduction, loss_weight

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        mask: Tensor,
        avg_factor: Tensor | float | None = None,
        reduction_override: Reduction | None = None,
    ) -> Tensor:
        """See :func:`masked_l1_loss`; ``reduction_override`` replaces ``reduction``."""
        reduction = reduction_override or self.reduction
        return self.loss_weight * masked_l1_loss(
            pred, target, mask, reduction=reduction, avg_factor=avg_factor
        )
