r"""Focal loss over independent classes, from integer labels.

With score :math:`p = \sigma(x)` an entry costs :math:`-\alpha (1 - p)^\gamma \log p` where the
label is its class, else :math:`-(1 - \alpha) p^\gamma \log(1 - p)`.

Lin et al., *Focal Loss for Dense Object Detection*, eq. 5.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmdet_losses.ops import REDUCTIONS, Reduction, check_choice, promote
from mmdet_losses.registry import MODELS


def sigmoid_focal_loss(
    pred: Tensor,
    labels: Tensor,
    counted: Tensor | None = None,
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
    reduction: Reduction = 'mean',
    avg_factor: Tensor | float | None = None,
) -> Tensor:
    """Focal loss of anchors that each hold one object or none.

    Shape:
        pred: (..., C) logits.
        labels: (...) int64 in 0 ... C, C is the background.
        counted: (...) bool; rows where it is false cost nothing.
        Returns a scalar, or (..., C) with ``reduction='none'``.

    Convention:
        'mean' divides by the number of rows with an object (at least 1) unless ``avg_factor``
        says else. MMDetection's ``FocalLoss`` gives the same numbers (it adds 1e-7 to the
        divisor); this one computes its gradient on the way and keeps nothing else.

    Raises:
        ValueError: an unknown reduction.

    Example:
        >>> sigmoid_focal_loss(torch.zeros(1, 2), torch.tensor([0]))
        tensor(0.1733)
    """
    check_choice('reduction', reduction, REDUCTIONS)
    pred = promote(pred)
    counted = torch.ones_like(labels, dtype=torch.bool) if counted is None else counted
    if reduction == 'none' or torch.compiler.is_compiling():
        loss = _plain(pred, labels, counted, alpha, gamma)
    else:
        loss = _FocalSum.apply(pred, labels, counted, alpha, gamma)
    if reduction == 'none':
        return loss
    if reduction == 'sum':
        return loss.sum()
    if avg_factor is None:
        avg_factor = (counted & (labels < pred.shape[-1])).sum().clamp(min=1)
    return loss.sum() / avg_factor


def _power(base: Tensor, gamma: float) -> Tensor:
    return base.square() if gamma == 2 else base.pow(gamma)


def _wrong(x: Tensor, gamma: float) -> Tensor:
    """Cost of a logit that should be low; at -x, of one that should be high."""
    return _power(x.sigmoid(), gamma) * F.softplus(x)


def _wrong_slope(x: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """:func:`_wrong` and its derivative p^g (g (1 - p) softplus + p)."""
    score, soft = x.sigmoid(), F.softplus(x)
    power = _power(score, gamma)
    slope = (1 - score).mul_(soft).mul_(gamma).add_(score).mul_(power)
    return soft.mul_(power), slope


def _plain(x: Tensor, labels: Tensor, counted: Tensor, alpha: float, gamma: float) -> Tensor:
    classes = torch.arange(x.shape[-1], device=x.device)
    own = labels[..., None] == classes
    cost = torch.where(own, alpha * _wrong(-x, gamma), (1 - alpha) * _wrong(x, gamma))
    return torch.where(counted[..., None], cost, 0)


class _FocalSum(torch.autograd.Function):
    """The sum and its gradient in one pass: all background first, then the objects' own entries."""

    @staticmethod
    def forward(
        ctx: Any, pred: Tensor, labels: Tensor, counted: Tensor, alpha: float, gamma: float
    ) -> Tensor:
        ctx.save_for_backward(pred, labels, counted)
        ctx.constants = (alpha, gamma)
        total, ctx.slopes = _sum_and_slopes(pred, labels, counted, alpha, gamma)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        slopes, ctx.slopes = ctx.slopes, None
        if slopes is None:  # a second backward through a retained graph
            _, slopes = _sum_and_slopes(*ctx.saved_tensors, *ctx.constants)
        return slopes.mul_(grad), None, None, None, None


def _sum_and_slopes(
    pred: Tensor, labels: Tensor, counted: Tensor, alpha: float, gamma: float
) -> tuple[Tensor, Tensor]:
    classes = pred.shape[-1]
    x = pred.detach().contiguous().view(-1, classes)
    label, rows = labels.reshape(-1), counted.reshape(-1)
    slopes, total = torch.empty_like(x), x.new_zeros(())
    chunk = max(1, (1 << (16 if x.device.type == 'cpu' else 24)) // max(classes, 1))
    for start in range(0, len(x), chunk):
        part = slice(start, start + chunk)
        cost, slope = _wrong_slope(x[part], gamma)
        weight = ((1 - alpha) * rows[part])[:, None].to(x)
        total += (cost * weight).sum()
        torch.mul(slope, weight, out=slopes[part])
    own = label.clamp(max=classes - 1)[:, None]
    mine = x.gather(1, own)
    low, low_slope = _wrong_slope(mine, gamma)
    high, high_slope = _wrong_slope(-mine, gamma)
    object_ = ((label < classes) & rows)[:, None]
    total += torch.where(object_, alpha * high - (1 - alpha) * low, 0).sum()
    change = torch.where(object_, -alpha * high_slope - (1 - alpha) * low_slope, 0)
    return total, slopes.scatter_add_(1, own, change).view(pred.shape)


@MODELS.register_module()
class SigmoidFocalLoss(nn.Module):
    """:func:`sigmoid_focal_loss` as a component, times ``loss_weight``."""

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2.0,
        reduction: Reduction = 'mean',
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_choice('reduction', reduction, REDUCTIONS)
        self.alpha, self.gamma = alpha, gamma
        self.reduction, self.loss_weight = reduction, loss_weight

    def forward(
        self,
        pred: Tensor,
        labels: Tensor,
        counted: Tensor | None = None,
        avg_factor: Tensor | float | None = None,
        reduction_override: Reduction | None = None,
    ) -> Tensor:
        """See :func:`sigmoid_focal_loss`; ``reduction_override`` replaces ``reduction``."""
        return self.loss_weight * sigmoid_focal_loss(
            pred,
            labels,
            counted,
            alpha=self.alpha,
            gamma=self.gamma,
            reduction=reduction_override or self.reduction,
            avg_factor=avg_factor,
        )
