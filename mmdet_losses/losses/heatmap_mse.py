"""Squared error of heatmaps."""

from __future__ import annotations

from torch import Tensor

from mmdet_losses.losses.term import LossTerm
from mmdet_losses.ops import Reduction, Splats, check_heatmaps, promote, reduce_loss, unwrap_dense
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
            subtracted without drawing the map.
        weight: broadcasts to (B, C, H, W).
        Returns a scalar, or (B, C, H, W) with ``reduction='none'``.

    Convention:
        No sigmoid is applied to ``pred``: the official MSE variant of CenterNet (objects as
        points) regresses the map itself.

    Args:
        activated: False applies a sigmoid to ``pred`` first.

    Raises:
        ValueError: an unknown reduction, or shapes that do not match.

    Example:
        >>> import torch
        >>> heatmap_mse_loss(torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 0.0]]]]))
        tensor(0.5000)
    """
    check_heatmaps(pred, target)
    scores = promote(pred) if activated else promote(pred).sigmoid()
    target = unwrap_dense(target)
    if isinstance(target, Splats):
        value = -target.value.to(scores.dtype)
        residual = scores.reshape(-1).index_add(0, target.index, value).view(scores.shape)
    else:
        residual = scores - target.to(scores.dtype)
    loss = residual.square()
    return reduce_loss(loss if weight is None else loss * promote(weight), reduction, avg_factor)


@MODELS.register_module()
class HeatmapMSELoss(LossTerm):
    """:func:`heatmap_mse_loss` as a component, times ``loss_weight``."""

    function = staticmethod(heatmap_mse_loss)
    accepts_splats = True
    fits = ('heatmaps',)

    def __init__(
        self, activated: bool = True, reduction: Reduction = 'mean', loss_weight: float = 1.0
    ) -> None:
        super().__init__(reduction, loss_weight, activated=activated)
