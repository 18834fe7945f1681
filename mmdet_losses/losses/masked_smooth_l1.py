"""Masked smooth L1 loss: smooth L1 over the slots that hold an object."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_losses.losses.masked_l1 import masked_difference, reduce_masked
from mmdet_losses.losses.term import LossTerm
from mmdet_losses.ops import Reduction, constant
from mmdet_losses.registry import MODELS


def masked_smooth_l1_loss(
    pred: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
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
        mask: (B, M) or (B, M, D); bool, or float weights as in MMDetection. None counts all.
        Returns a scalar, or (B, M, D) with ``reduction='none'``.

    Convention:
        As in :func:`~mmdet_losses.losses.masked_l1.masked_l1_loss`. CornerNet sums both
        coordinates and divides by the objects of the batch + 1e-4, which its criterion passes.

    Example:
        >>> pred, mask = torch.tensor([[[2.0, 0.5], [9.0, 9.0]]]), torch.tensor([[True, False]])
        >>> masked_smooth_l1_loss(pred, torch.zeros(1, 2, 2), mask, reduction='sum')
        tensor(1.6250)

    Reference:
        Law and Deng, *CornerNet: Detecting Objects as Paired Keypoints*, eq. 3.
    """
    difference = masked_difference(pred, target, mask)
    zero = torch.broadcast_to(constant(0, difference), difference.shape)
    distance = F.smooth_l1_loss(difference, zero, reduction='none', beta=beta)
    return reduce_masked(distance, mask, reduction, avg_factor)


@MODELS.register_module()
class MaskedSmoothL1Loss(LossTerm):
    """:func:`masked_smooth_l1_loss` as a component, times ``loss_weight``."""

    function = staticmethod(masked_smooth_l1_loss)
    regresses = 'deltas'
    fits = ('deltas', 'boxes')

    def __init__(
        self, beta: float = 1.0, reduction: Reduction = 'mean', loss_weight: float = 1.0
    ) -> None:
        super().__init__(reduction, loss_weight, beta=beta)
