"""Weighted L1 loss: every value has its own weight."""

from __future__ import annotations

from torch import Tensor

from mmdet_losses.losses.masked_l1 import masked_difference, per_value
from mmdet_losses.losses.term import LossTerm
from mmdet_losses.ops import Reduction, reduce_loss
from mmdet_losses.registry import MODELS


def masked_weighted_l1_loss(
    pred: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    reduction: Reduction = 'mean',
    avg_factor: Tensor | float | None = None,
) -> Tensor:
    r"""L1 distance, each value times its weight: :math:`\sum_i w_i |p_i - t_i| / \sum_i w_i`.

    Shape:
        pred, target: any shape: (B, M, D) read at cells, or whole maps (B, D, H, W).
        weight: broadcasts to them; bool, or float from 0. None weighs every value by 1.
        Returns a scalar, or the shape of ``pred`` with ``reduction='none'``.

    Convention:
        Values of weight 0 contribute exact zeros, even if they are NaN. Without ``avg_factor``
        'mean' divides by the sum of the weights, and is 0 if all weights are 0. The official codes
        divide by the sum + 1e-4, which their criteria pass.

    Example:
        >>> import torch
        >>> pred, weight = torch.tensor([2.0, 4.0, 9.0]), torch.tensor([1.0, 0.5, 0.0])
        >>> masked_weighted_l1_loss(pred, torch.zeros(3), weight, reduction='sum')
        tensor(4.)

    Reference:
        Zhou, Wang and Krähenbühl, *Objects as Points*, section 4.2 (keypoints of a person).
    """
    loss = masked_difference(pred, target, weight).abs()
    if weight is None:
        return reduce_loss(loss, reduction, avg_factor)
    weight = per_value(weight, loss).to(loss.dtype).expand_as(loss)
    return reduce_loss(loss * weight, reduction, avg_factor, count=weight.sum())


@MODELS.register_module(name=['MaskedWeightedL1Loss', 'RegWeightedL1Loss'])
class MaskedWeightedL1Loss(LossTerm):
    """:func:`masked_weighted_l1_loss` as a component, times ``loss_weight``."""

    function = staticmethod(masked_weighted_l1_loss)
    regresses = 'deltas'
    fits = ('deltas', 'boxes')
