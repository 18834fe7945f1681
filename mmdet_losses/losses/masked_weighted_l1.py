"""Masked, weighted L1: every value has its own weight."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmdet_losses.ops import REDUCTIONS, Reduction, check_choice, promote
from mmdet_losses.registry import MODELS


def masked_weighted_l1_loss(
    pred: Tensor,
    target: Tensor,
    weight: Tensor,
    *,
    reduction: Reduction = 'mean',
    avg_factor: Tensor | float | None = None,
) -> Tensor:
    r"""L1 distance, each value times its weight: :math:`\sum_i w_i |p_i - t_i| / \sum_i w_i`.

    Shape:
        pred, target: any shape: (B, M, D) read at cells, or whole maps (B, D, H, W).
        weight: broadcasts to them; at least 0, or bool.
        Returns a scalar, or the shape of ``pred`` with ``reduction='none'``.

    Convention:
        Values of weight 0 contribute exact zeros, even where they hold NaN. 'mean' divides by
        ``avg_factor``, or without it by the sum of the weights, exactly: where all weights are 0
        the result is 0. The official codes divide by the sum + 1e-4; their criteria say so.

    Example:
        >>> pred, weight = torch.tensor([2.0, 4.0, 9.0]), torch.tensor([1.0, 0.5, 0.0])
        >>> masked_weighted_l1_loss(pred, torch.zeros(3), weight, reduction='sum')
        tensor(4.)

    Zhou, Wang and Krähenbühl, *Objects as Points*, section 4.2 (joints of a person).
    """
    check_choice('reduction', reduction, REDUCTIONS)
    distance = (promote(pred) - promote(target)).abs()
    weight = weight.to(distance.dtype).expand_as(distance)
    loss = torch.where(weight > 0, distance * weight, distance.new_zeros(()))
    if reduction == 'none':
        return loss
    if reduction == 'sum':
        return loss.sum()
    if avg_factor is None:
        total = weight.sum()
        avg_factor = torch.where(total > 0, total, torch.ones_like(total))
    return loss.sum() / avg_factor


@MODELS.register_module(name=['MaskedWeightedL1Loss', 'RegWeightedL1Loss'])
class MaskedWeightedL1Loss(nn.Module):
    """:func:`masked_weighted_l1_loss` as a component, times ``loss_weight``."""

    def __init__(self, reduction: Reduction = 'mean', loss_weight: float = 1.0) -> None:
        super().__init__()
        check_choice('reduction', reduction, REDUCTIONS)
        self.reduction, self.loss_weight = reduction, loss_weight

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor,
        avg_factor: Tensor | float | None = None,
        reduction_override: Reduction | None = None,
    ) -> Tensor:
        """See :func:`masked_weighted_l1_loss`; ``reduction_override`` replaces ``reduction``."""
        reduction = reduction_override or self.reduction
        return self.loss_weight * masked_weighted_l1_loss(
            pred, target, weight, reduction=reduction, avg_factor=avg_factor
        )
