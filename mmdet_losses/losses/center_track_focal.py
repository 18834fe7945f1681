r"""CenterTrack's focal loss: positives are counted by object, not by cell.

With scores :math:`p = \sigma(x)`, target map :math:`t` and objects :math:`k` at cells :math:`c_k`

.. math::

    -\frac{1}{N} \Big[ \sum_k (1 - p_{c_k})^\alpha \log p_{c_k}
    + \sum_c (1 - t_c)^\beta p_c^\alpha \log(1 - p_c) \Big]

Zhou, Koltun and Krähenbühl, *Tracking Objects as Points*, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmdet_losses.losses.penalty_reduced_focal import (
    focal_background_cost,
    logit_bounds,
    penalty_reduced_focal_loss,
)
from mmdet_losses.ops import REDUCTIONS, Reduction, Splats, at_least_one, check_choice, promote
from mmdet_losses.registry import MODELS

_BELOW_ONE = 1 - 2**-24
"""The largest float32 below 1: as a target, a cell that is no positive and weighs 1e-29."""


def center_track_focal_loss(
    pred: Tensor,
    target: Tensor | Splats,
    index: Tensor,
    labels: Tensor,
    mask: Tensor,
    weight: Tensor | None = None,
    *,
    alpha: float = 2.0,
    beta: float = 4.0,
    clamp: float | None = None,
    reduction: Reduction = 'mean',
    avg_factor: Tensor | float | None = None,
) -> Tensor:
    """Penalty-reduced focal loss with positives gathered at the objects.

    Shape:
        pred: (B, C, H, W) logits.
        target: (B, C, H, W) in [0, 1], or the same map as :class:`~mmdet_losses.ops.Splats`.
        index, labels: (B, M) int64 cell ``y * W + x`` and class of each object.
        mask: (B, M) bool, which slots hold an object.
        weight: broadcasts to (B, C, H, W); a factor on every negative cell, 0 in ignored regions.
        Returns a scalar.

    Convention:
        Two objects of one class in one cell are two positives, in the sum and in the number that
        divides it; ``penalty_reduced_focal_loss`` counts them once. A target of 1 without an
        object is an ignored cell. ``clamp`` as in
        :func:`~mmdet_losses.losses.penalty_reduced_focal.penalty_reduced_focal_loss`.

    Raises:
        ValueError: an unknown reduction, 'none' (positives and cells have different shapes), or
            shapes that do not match.

    Example:
        >>> pred = torch.full((1, 1, 1, 1), 0.3).logit()
        >>> zero, true = torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2, dtype=torch.bool)
        >>> center_track_focal_loss(pred, torch.ones(1, 1, 1, 1), zero, zero, true)
        tensor(0.5899)
    """
    check_choice('reduction', reduction, REDUCTIONS)
    if reduction == 'none':
        raise ValueError("reduction='none' has no single shape here; choose 'mean' or 'sum'.")
    if isinstance(target, Splats):
        target = target._replace(value=target.value.clamp(max=_BELOW_ONE))
    else:
        target = target.clamp(max=_BELOW_ONE)
    negative = penalty_reduced_focal_loss(
        pred, target, weight, alpha=alpha, beta=beta, clamp=clamp, reduction='sum'
    )
    cells = pred.shape[-2] * pred.shape[-1]
    logits = promote(pred.flatten(1).gather(1, labels * cells + index))
    if clamp is not None:
        logits = logits.clamp(*logit_bounds(clamp))
    cost = focal_background_cost(-logits, alpha)
    total = negative + torch.where(mask, cost, cost.new_zeros(())).sum()
    if reduction == 'sum':
        return total
    return total / (at_least_one(mask.sum()) if avg_factor is None else avg_factor)


@MODELS.register_module(name=['CenterTrackFocalLoss', 'FastFocalLoss'])
class CenterTrackFocalLoss(nn.Module):
    """:func:`center_track_focal_loss` as a component, times ``loss_weight``."""

    accepts_splats = True
    gathers_positives = True

    def __init__(
        self,
        alpha: float = 2.0,
        beta: float = 4.0,
        clamp: float | None = None,
        reduction: Reduction = 'mean',
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_choice('reduction', reduction, REDUCTIONS)
        self.alpha, self.beta, self.clamp = alpha, beta, clamp
        self.reduction, self.loss_weight = reduction, loss_weight

    def forward(
        self,
        pred: Tensor,
        target: Tensor | Splats,
        index: Tensor,
        labels: Tensor,
        mask: Tensor,
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,
        reduction_override: Reduction | None = None,
    ) -> Tensor:
        """See :func:`center_track_focal_loss`; ``reduction_override`` replaces ``reduction``."""
        return self.loss_weight * center_track_focal_loss(
            pred,
            target,
            index,
            labels,
            mask,
            weight,
            alpha=self.alpha,
            beta=self.beta,
            clamp=self.clamp,
            reduction=reduction_override or self.reduction,
            avg_factor=avg_factor,
        )
