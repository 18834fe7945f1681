"""Losses of the IoU of paired boxes, and of its kinds."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from mmdet_losses.losses.term import LossTerm
from mmdet_losses.ops import (
    IOU_MODES,
    IoUMode,
    Reduction,
    box_similarity,
    check_choice,
    check_exponent,
    reduce_loss,
)
from mmdet_losses.registry import MODELS

Scaling = Literal['linear', 'square', 'log']
SCALINGS: tuple[str, ...] = get_args(Scaling)


def box_iou_loss(
    pred: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    mode: IoUMode = 'iou',
    scaling: Scaling = 'linear',
    eps: float = 1e-6,
    aspect_factor: bool = False,
    exponent: float = 1.0,
    reduction: Reduction = 'mean',
    avg_factor: Tensor | float | None = None,
) -> Tensor:
    r"""Loss of the similarity s of each pair: :math:`1 - s`, :math:`1 - s^2` or :math:`-\log s`.

    Shape:
        pred, target: (..., 4) xyxy in one unit, broadcastable.
        weight: (...), or (..., 4) as the heads of MMDetection pass it; then its mean counts.
        Returns a scalar, or (...) with ``reduction='none'``.

    Convention:
        The formulas of the papers without an epsilon: a perfect box costs exactly 0, in pixels and
        in fractions, and every gradient is finite. MMDetection differs: it clamps the IoU, adds
        1e-7, and drops the aspect term of the CIoU unless the IoU exceeds 0.5.

    Args:
        mode, aspect_factor, exponent: see :func:`~mmdet_losses.ops.paired_iou.box_similarity`.
        scaling: 'linear', 'square' or 'log'; the last two need ``mode='iou'``.
        eps: smallest IoU of 'log'.

    Raises:
        ValueError: an unknown mode, scaling or reduction, or an exponent that does not fit.

    Example:
        >>> import torch
        >>> box = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
        >>> box_iou_loss(box, box / 2)
        tensor(0.7500)
    """
    _check_scaling(mode, scaling)
    similarity = box_similarity(pred, target, mode, aspect_factor, exponent)
    if scaling == 'log':
        loss = -similarity.clamp(min=eps).log()
    else:
        loss = 1 - (similarity.square() if scaling == 'square' else similarity)
    if weight is not None:
        loss = loss * (weight.mean(-1) if weight.dim() > loss.dim() else weight)
    return reduce_loss(loss, reduction, avg_factor)


def _check_scaling(mode: str, scaling: str) -> None:
    check_choice('scaling', scaling, SCALINGS)
    if scaling != 'linear' and mode != 'iou':
        raise ValueError(
            f"scaling={scaling!r} needs mode='iou', because mode={mode!r} may be negative; set "
            "scaling='linear'."
        )


@MODELS.register_module()
class BoxIoULoss(LossTerm):
    """:func:`box_iou_loss` as a component, with the arguments of MMDetection's IoU losses.

    Args:
        mode: 'iou', 'giou', 'diou', 'ciou', 'eiou', 'siou', or MMDetection's 'eiou_mmdet' and
            'siou_mmdet'.
        aspect_factor, exponent: see :func:`~mmdet_losses.ops.paired_iou.box_similarity`.
        loss_weight: factor on the result.
        scaling: 'linear', 'square' or 'log': what ``mode`` means in MMDetection's ``IoULoss``.
        eps: smallest IoU of 'log'. The other losses need no epsilon and ignore it.
    """

    function = staticmethod(box_iou_loss)
    regresses = 'boxes'
    fits = ('boxes', 'box costs')

    def __init__(
        self,
        mode: IoUMode = 'iou',
        aspect_factor: bool = False,
        reduction: Reduction = 'mean',
        loss_weight: float = 1.0,
        scaling: Scaling = 'linear',
        eps: float = 1e-6,
        exponent: float = 1.0,
    ) -> None:
        super().__init__(
            reduction,
            loss_weight,
            mode=mode,
            aspect_factor=aspect_factor,
            exponent=exponent,
            scaling=scaling,
            eps=eps,
        )
        if mode in SCALINGS:
            raise ValueError(
                f'mode={mode!r} is a scaling of MMDetection; set scaling={mode!r} and the measure '
                "as mode='iou'."
            )
        check_choice('mode', mode, IOU_MODES)
        _check_scaling(mode, scaling)
        check_exponent(mode, exponent)


@MODELS.register_module()
class GeneralizedIoULoss(BoxIoULoss):
    """:class:`BoxIoULoss` with ``mode='giou'``."""

    def __init__(
        self, reduction: Reduction = 'mean', loss_weight: float = 1.0, eps: float = 1e-6
    ) -> None:
        super().__init__('giou', False, reduction, loss_weight, eps=eps)


@MODELS.register_module()
class DistanceIoULoss(BoxIoULoss):
    """:class:`BoxIoULoss` with ``mode='diou'``."""

    def __init__(
        self, reduction: Reduction = 'mean', loss_weight: float = 1.0, eps: float = 1e-6
    ) -> None:
        super().__init__('diou', False, reduction, loss_weight, eps=eps)


@MODELS.register_module()
class CompleteIoULoss(BoxIoULoss):
    """:class:`BoxIoULoss` with ``mode='ciou'``."""

    def __init__(
        self,
        aspect_factor: bool = False,
        reduction: Reduction = 'mean',
        loss_weight: float = 1.0,
        eps: float = 1e-6,
    ) -> None:
        super().__init__('ciou', aspect_factor, reduction, loss_weight, eps=eps)
