"""One minus an overlap: IoU, GIoU, DIoU and CIoU losses of paired boxes."""

from __future__ import annotations

from torch import Tensor, nn

from mmdet_losses.ops import (
    IOU_MODES,
    REDUCTIONS,
    IoUMode,
    Reduction,
    box_similarity,
    check_choice,
    reduce_loss,
)
from mmdet_losses.registry import MODELS


def box_iou_loss(
    pred: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    mode: IoUMode = 'iou',
    aspect_factor: bool = False,
    reduction: Reduction = 'mean',
    avg_factor: Tensor | float | None = None,
) -> Tensor:
    r"""One minus the similarity of each pair (:func:`~mmdet_losses.ops.paired_iou.box_similarity`).

    Shape:
        pred, target: (..., 4) xyxy in any one unit, broadcastable.
        weight: (...), or (..., 4) as MMDetection's heads hand over (their mean counts).
        Returns a scalar, or (...) with ``reduction='none'``.

    Convention:
        The papers' formulas without an epsilon: a perfect box costs exactly 0, in pixels and in
        fractions, and every gradient is finite. MMDetection differs: it clamps the IoU, adds 1e-7
        and drops CIoU's aspect term unless the IoU exceeds 0.5.

    Raises:
        ValueError: an unknown mode or reduction.

    Example:
        >>> import torch
        >>> box = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
        >>> box_iou_loss(box, box / 2)
        tensor(0.7500)
    """
    loss = 1 - box_similarity(pred, target, mode, aspect_factor)
    if weight is not None:
        loss = loss * (weight.mean(-1) if weight.dim() > loss.dim() else weight)
    return reduce_loss(loss, reduction, avg_factor)


@MODELS.register_module()
class BoxIoULoss(nn.Module):
    """:func:`box_iou_loss` as a component, with MMDetection's five arguments.

    Args:
        mode: 'iou', 'giou', 'diou' or 'ciou'.
        aspect_factor: see :func:`~mmdet_losses.ops.paired_iou.box_similarity`.
        loss_weight: factor on the result.
    """

    def __init__(
        self,
        mode: IoUMode = 'iou',
        aspect_factor: bool = False,
        reduction: Reduction = 'mean',
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_choice('mode', mode, IOU_MODES)
        check_choice('reduction', reduction, REDUCTIONS)
        self.mode, self.aspect_factor = mode, aspect_factor
        self.reduction, self.loss_weight = reduction, loss_weight

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,
        reduction_override: Reduction | None = None,
    ) -> Tensor:
        """See :func:`box_iou_loss`; ``reduction_override`` replaces ``reduction``."""
        return self.loss_weight * box_iou_loss(
            pred,
            target,
            weight,
            mode=self.mode,
            aspect_factor=self.aspect_factor,
            reduction=reduction_override or self.reduction,
            avg_factor=avg_factor,
        )


@MODELS.register_module()
class GeneralizedIoULoss(BoxIoULoss):
    """:class:`BoxIoULoss` with ``mode='giou'``."""

    def __init__(self, reduction: Reduction = 'mean', loss_weight: float = 1.0) -> None:
        super().__init__('giou', reduction=reduction, loss_weight=loss_weight)


@MODELS.register_module()
class DistanceIoULoss(BoxIoULoss):
    """:class:`BoxIoULoss` with ``mode='diou'``."""

    def __init__(self, reduction: Reduction = 'mean', loss_weight: float = 1.0) -> None:
        super().__init__('diou', reduction=reduction, loss_weight=loss_weight)


@MODELS.register_module()
class CompleteIoULoss(BoxIoULoss):
    """:class:`BoxIoULoss` with ``mode='ciou'``."""

    def __init__(
        self,
        aspect_factor: bool = False,
        reduction: Reduction = 'mean',
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__('ciou', aspect_factor, reduction, loss_weight)
