"""Masked smooth L1: offsets read at the cells where objects are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet_losses.losses.masked_l1 import reduce_masked, slot_mask
from mmdet_losses.ops import REDUCTIONS, Reduction, check_choice, promote
from mmdet_losses.registry import MODELS


def masked_smooth_l1_loss(
    pred: Tensor,
    target: Tensor,
    mask: Tensor,
    *,
    beta: float = 1.0,
    reduction: Reduction = 'mean',
    avg_factor: Tensor | float | None = None,
) -> Tensor:
    r"""Smooth L1 over the slots that hold an object.

    With :math:`d = |p - t|` a value costs :math:`d^2 / 2\beta` below :math:`\beta` and
    :math:`d - \beta / 2` above.

    Shape:
        pred, target: (B, M, D); M object slots, D values each, in feature cells.
        mask: (B, M) bool, or (B, M, D) to choose single values.
        Returns a scalar, or (B, M, D) with ``reduction='none'``.

    Convention:
        As in :func:`~mmdet_losses.losses.masked_l1.masked_l1_loss`: empty slots contribute exact
        zeros, and without ``avg_factor`` 'mean' divides by the masked values. CornerNet sums both
        coordinates and divides by the objects of the batch + 1e-4; its criterion says so.

    Example:
        >>> pred, mask = torch.tensor([[[2.0, 0.5], [9.0, 9.0]]]), torch.tensor([[True, False]])
        >>> masked_smooth_l1_loss(pred, torch.zeros(1, 2, 2), mask, reduction='sum')
        tensor(1.6250)

    Law and Deng, *CornerNet: Detecting Objects as Paired Keypoints*, eq. 3.
    """
    mask = slot_mask(mask, pred)
    difference = promote(pred) - promote(target)
    difference = torch.where(mask, difference, 0)  # before the formula: NaN has NaN gradients
    distance = F.smooth_l1_loss(
        difference, torch.zeros_like(difference), reduction='none', beta=beta
    )
    return reduce_masked(distance, mask, reduction, avg_factor)


@MODELS.register_module()
class MaskedSmoothL1Loss(nn.Module):
    """:func:`masked_smooth_l1_loss` as a component, times ``loss_weight``."""

    def __init__(
        self, beta: float = 1.0, reduction: Reduction = 'mean', loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        check_choice('reduction', reduction, REDUCTIONS)
        self.beta, self.reduction, self.loss_weight = beta, reduction, loss_weight

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        mask: Tensor,
        avg_factor: Tensor | float | None = None,
        reduction_override: Reduction | None = None,
    ) -> Tensor:
        """See :func:`masked_smooth_l1_loss`; ``reduction_override`` replaces ``reduction``."""
        return self.loss_weight * masked_smooth_l1_loss(
            pred,
            target,
            mask,
            beta=self.beta,
            reduction=reduction_override or self.reduction,
            avg_factor=avg_factor,
        )
