r"""CenterTrack's focal loss: it counts positives per object, not per cell.

With scores :math:`p = \sigma(x)`, target map :math:`t` and objects :math:`k` at cells :math:`c_k`

.. math::

    -\frac{1}{N} \Big[ \sum_k (1 - p_{c_k})^\alpha \log p_{c_k}
    + \sum_c (1 - t_c)^\beta p_c^\alpha \log(1 - p_c) \Big]

Reference:
    Zhou, Koltun and Krähenbühl, *Tracking Objects as Points*, section 3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmdet_losses.losses.penalty_reduced_focal import given_positives_focal
from mmdet_losses.losses.term import LossTerm
from mmdet_losses.ops import Reduction, Splats, at_least_one
from mmdet_losses.registry import MODELS


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
    """Penalty-reduced focal loss whose positives are read at the cells of the objects.

    Shape:
        pred: (B, C, H, W) logits.
        target: (B, C, H, W) in [0, 1], or the same map as :class:`~mmdet_losses.ops.Splats`.
        index, labels: (B, M) int64 cell ``y * W + x`` and class of each object.
        mask: (B, M) bool, which slots hold an object; or float, their factors.
        weight: broadcasts to (B, C, H, W); a factor on the negatives, 0 in ignored regions.
        Returns a scalar.

    Convention:
        Two objects of one class in one cell are two positives, in the sum and in the divisor;
        ``penalty_reduced_focal_loss`` counts them once. A target of 1 without an object is an
        ignored cell. ``clamp`` as in
        :class:`~mmdet_losses.losses.penalty_reduced_focal.PenaltyReducedFocalLoss`.

    Raises:
        ValueError: an unknown reduction, 'none' (positives and cells have different shapes), or
            shapes that do not match.

    Example:
        >>> pred = torch.full((1, 1, 1, 1), 0.3).logit()
        >>> zero, true = torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2, dtype=torch.bool)
        >>> center_track_focal_loss(pred, torch.ones(1, 1, 1, 1), zero, zero, true)
        tensor(0.5899)
    """
    image = torch.arange(len(pred), device=pred.device)[:, None]
    channel = image * pred.shape[1] + labels
    cells = (channel * math.prod(pred.shape[2:]) + index).flatten()
    return given_positives_focal(
        *(pred, target, cells, weight, mask.flatten()),
        alpha=alpha,
        beta=beta,
        clamp=clamp,
        reduction=reduction,
        avg_factor=avg_factor,
        count=at_least_one((mask != 0).sum()),
    )


@MODELS.register_module(name=['CenterTrackFocalLoss', 'FastFocalLoss'])
class CenterTrackFocalLoss(LossTerm):
    """:func:`center_track_focal_loss` as a component, times ``loss_weight``."""

    function = staticmethod(center_track_focal_loss)
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
        super().__init__(reduction, loss_weight, alpha=alpha, beta=beta, clamp=clamp)

    def forward(  # type: ignore[override]  # it also takes the objects
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
        """See :func:`center_track_focal_loss`."""
        inputs = (pred, target, index, labels, mask, weight)
        return self.evaluate(*inputs, avg_factor=avg_factor, reduction=reduction_override)
