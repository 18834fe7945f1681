r"""Focal loss over independent classes.

With score :math:`p = \sigma(x)` an entry costs :math:`-\alpha (1 - p)^\gamma \log p` where its
class is the label, else :math:`-(1 - \alpha) p^\gamma \log(1 - p)`.

Reference:
    Lin et al., *Focal Loss for Dense Object Detection*, eq. 5.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_losses.losses.term import LossTerm
from mmdet_losses.ops import (
    Reduction,
    channels_per_anchor,
    divisor_of,
    flatten_levels,
    promote,
    reduce_loss,
)
from mmdet_losses.ops.kernels import (
    class_focal_cost,
    class_focal_sum,
    gpu_kernels,
    power,
    use_triton,
)
from mmdet_losses.registry import MODELS

TINY = torch.finfo(torch.float32).tiny


def sigmoid_focal_loss(
    pred: Tensor | Sequence[Tensor],
    target: Tensor,
    weight: Tensor | None = None,
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
    activated: bool = False,
    reduction: Reduction = 'mean',
    avg_factor: Tensor | float | None = None,
) -> Tensor:
    """Focal loss of entries that each belong to one class or to the background.

    Shape:
        pred: (..., C) logits, or scores if ``activated``.
        target: (...) int64 labels in 0 ... C, C is the background; or (..., C) in [0, 1], one-hot
            or soft.
        weight: (...) or (..., C), bool or float.
        Or pred: maps (B, A * C, H, W) of anchors, anchor-major; target, weight: (B, P), P anchors
        in the order level, anchor, row, column.
        Returns a scalar, or (..., C) with ``reduction='none'``.

    Convention:
        Equal to MMDetection's ``FocalLoss``: 'mean' divides by the number of all entries unless
        ``avg_factor`` is given. With labels, the gradient is computed together with the value and
        nothing else is kept for backward.

    Raises:
        ValueError: an unknown reduction, or shapes that do not match.
        TypeError: labels together with scores, as for ``QualityFocalLoss``.

    Example:
        >>> sigmoid_focal_loss(torch.zeros(1, 2), torch.tensor([0]), avg_factor=1)
        tensor(0.1733)
    """
    _check_type(target)
    if not isinstance(pred, Tensor):
        depth = channels_per_anchor(pred, target.shape[1])
        if reduction != 'none' and not activated and _reads_maps(pred[0], target, weight):
            maps = [promote(each) for each in pred]
            divisor = divisor_of(reduction, avg_factor, sum(each.numel() for each in maps))
            return class_focal_sum(maps, target, weight, alpha, gamma, divisor)
        pred = flatten_levels(pred, depth)
    dense = _is_dense(target, pred)
    fused = reduction != 'none' and not dense and use_triton(pred)
    x = pred if fused else promote(pred)
    if activated:
        x = torch.logit(promote(x).clamp(TINY, 1 - 2**-24))
    if weight is not None:
        weight = _weight_like(weight, x)
    if reduction != 'none' and not dense:
        divisor = divisor_of(reduction, avg_factor, x.numel())
        function = gpu_kernels('focal').class_focal if fused else class_focal_sum
        return function(x, target, weight, alpha, gamma, divisor)
    if dense:
        cost = _soft_focal(x, target.to(x.dtype), alpha, gamma)
    else:
        cost = class_focal_cost(x, target, alpha, gamma)
    return reduce_loss(cost if weight is None else cost * weight, reduction, avg_factor)


def _check_type(target: object) -> None:
    """Raise ``TypeError`` for the target of ``QualityFocalLoss``."""
    if isinstance(target, tuple):
        raise TypeError(
            'target is a tuple (labels, scores), which only QualityFocalLoss takes; choose that '
            'loss for this head.'
        )


def _is_dense(target: Tensor, pred: Tensor) -> bool:
    """Whether the target has a number per logit, instead of a label per row.

    Raises:
        ValueError: the shapes do not match.
    """
    dense = target.dim() == pred.dim()
    if target.shape != (pred.shape if dense else pred.shape[:-1]):
        raise ValueError(
            f'The logits have shape {tuple(pred.shape)} but the target {tuple(target.shape)}; '
            'give one label per row, or one target per logit.'
        )
    return dense


def _reads_maps(x: Tensor, target: Tensor, weight: Tensor | None) -> bool:
    """Whether the maps need no common list: a CPU is faster without this copy of all logits."""
    if torch.compiler.is_compiling() or use_triton(x) or x.device.type != 'cpu':
        return False
    return weight is None or weight.shape == target.shape


def _soft_focal(x: Tensor, t: Tensor, alpha: float, gamma: float) -> Tensor:
    """Focal loss for targets in [0, 1]: the distance from score to target is the modulation."""
    score = x.sigmoid()
    distance = score * (1 - t) + (1 - score) * t
    balance = alpha * t + (1 - alpha) * (1 - t)
    entropy = F.binary_cross_entropy_with_logits(x, t, reduction='none')
    return balance * power(distance.clamp(min=TINY), gamma) * entropy


def _weight_like(weight: Tensor, x: Tensor) -> Tensor:
    """Weights of rows as (..., 1), weights of entries as (..., C)."""
    if weight.numel() == x.numel():
        return weight.reshape(x.shape)  # MMDetection's FSAF passes them flat
    return weight.reshape(*x.shape[:-1], 1)


@MODELS.register_module()
class SigmoidFocalLoss(LossTerm):
    """:func:`sigmoid_focal_loss` as a component, in place of MMDetection's ``FocalLoss``.

    Args:
        use_sigmoid: True. The heads of MMDetection read it from the config, and without it in the
            config they add a background class: always write ``use_sigmoid=True`` there.
        alpha, gamma: see :mod:`~mmdet_losses.losses.sigmoid_focal`.
        loss_weight: factor on the result.
        activated: ``pred`` holds scores.

    Raises:
        ValueError: ``use_sigmoid=False``.
    """

    function = staticmethod(sigmoid_focal_loss)
    fits = ('classes', 'class scores', 'scores')
    accepts_maps = True
    """A criterion may pass a sequence of maps."""

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2.0,
        reduction: Reduction = 'mean',
        loss_weight: float = 1.0,
        use_sigmoid: bool = True,
        activated: bool = False,
    ) -> None:
        super().__init__(reduction, loss_weight, alpha=alpha, gamma=gamma, activated=activated)
        if not use_sigmoid:
            raise ValueError(
                'use_sigmoid is False, but SigmoidFocalLoss has no softmax form; set '
                'use_sigmoid=True or choose another loss.'
            )
        self.use_sigmoid = use_sigmoid
