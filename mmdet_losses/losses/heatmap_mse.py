"""Squared error of a heatmap whose target is nearly empty."""

from __future__ import annotations

from torch import Tensor, nn

from mmdet_losses.ops import (
    REDUCTIONS,
    Reduction,
    Splats,
    check_choice,
    promote,
    reduce_loss,
    unlisted,
)
from mmdet_losses.registry import MODELS


def heatmap_mse_loss(
    pred: Tensor,
    target: Tensor | Splats,
    weight: Tensor | None = None,
    *,
    activated: bool = True,
    reduction: Reduction = 'mean',
    avg_factor: Tensor | float | None = None,
) -> Tensor:
    r"""Mean of :math:`(p - t)^2` over all cells.

    Shape:
        pred: (B, C, H, W) scores.
        target: (B, C, H, W), or the same map as :class:`~mmdet_losses.ops.Splats`, which are
            subtracted in place of a dense map.
        weight: broadcasts to (B, C, H, W).
        Returns a scalar, or (B, C, H, W) with ``reduction='none'``.

    Convention:
        ``pred`` is compared as it is, without a sigmoid: the official MSE variant of CenterNet
        (objects as points) regresses the map itself. 'mean' divides by ``avg_factor``, or without
        it by the number of cells.

    Args:
        activated: false puts a sigmoid on ``pred`` first.

    Raises:
        ValueError: an unknown reduction, or shapes that do not match.

    Example:
        >>> import torch
        >>> heatmap_mse_loss(torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 0.0]]]]))
        tensor(0.5000)
    """
    check_choice('reduction', reduction, REDUCTIONS)
    if tuple(pred.shape) != tuple(target.shape):
        raise ValueError(
            f'The heatmap has shape {tuple(pred.shape)} but its target {tuple(target.shape)}; '
            'num_classes and the stride of head and encoder must agree.'
        )
    pred = promote(pred)
    scores = pred if activated else pred.sigmoid()
    target = unlisted(target)
    if isinstance(target, Splats):
        value = -target.value.to(scores.dtype)
        residual = scores.reshape(-1).index_add(0, target.index, value).view(scores.shape)
    else:
        residual = scores - target.to(scores.dtype)
    loss = residual.square()
    if weight is not None:
        loss = loss * promote(weight)
    return reduce_loss(loss, reduction, avg_factor)


@MODELS.register_module()
class HeatmapMSELoss(nn.Module):
    """:func:`heatmap_mse_loss` as a component, with MMDetection's five arguments."""

    accepts_splats = True

    def __init__(
        self, activated: bool = True, reduction: Reduction = 'mean', loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        check_choice('reduction', reduction, REDUCTIONS)
        self.activated, self.reduction, self.loss_weight = activated, reduction, loss_weight

    def forward(
        self,
        pred: Tensor,
        target: Tensor | Splats,
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,
        reduction_override: Reduction | None = None,
    ) -> Tensor:
        """See :func:`heatmap_mse_loss`; ``reduction_override`` replaces ``reduction``."""
        return self.loss_weight * heatmap_mse_loss(
            pred,
            target,
            weight,
            activated=self.activated,
            reduction=reduction_override or self.reduction,
            avg_factor=avg_factor,
        )
