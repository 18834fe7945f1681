"""Criterion of CornerNet and CornerNet-Squeeze."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mmdet_losses.core import (
    DetectorLoss,
    build_regression,
    build_term,
    compare_deltas,
    heatmap_term,
    mean_over_stacks,
    weigh_slots,
)
from mmdet_losses.detectors.corner.contracts import (
    CenterKeypoint,
    CornerOutputsT,
    CornerTargetsT,
    Keypoint,
    KeypointTarget,
)
from mmdet_losses.ops import gather_cells
from mmdet_losses.registry import MODELS


@MODELS.register_module(name=['CornerNetLoss', 'CornerNet_Loss'])
class CornerNetLoss(DetectorLoss[CornerOutputsT, CornerTargetsT]):
    r"""Focal heatmaps + 0.1 pull + 0.1 push + smooth L1 offsets.

    Law and Deng, *CornerNet: Detecting Objects as Paired Keypoints*, eq. 6.

    Convention:
        Both corners are added, not averaged; every term is the mean over the network's stacks.
        A heatmap divides by its positive cells in the batch. An offset term sums both
        coordinates and divides by the objects of the batch + 1e-4. Pull and push are divided per
        image and then summed over images, so their share grows with the images of a process.

    Args:
        loss_heatmap: a term ``(pred, target)``, and ``weight`` if the data have ignored regions;
            default ``PenaltyReducedFocalLoss`` (``clamp=1e-4`` is the official saturation).
        loss_embedding: a term ``(tl, br, mask)`` that returns pull and push; default
            ``PullPushLoss``, 0.1 each.
        loss_offset: a term ``(pred, target, mask, avg_factor)``; default ``MaskedSmoothL1Loss``.
        class_weight: factors of the cells of each class's heatmap channels.

    The weight of an object multiplies the costs of the cells of its corners, its offsets and its
    pull; the push of two objects has the mean of their weights. Attention maps are not weighted.
    """

    def __init__(
        self,
        loss_heatmap: dict | None = None,
        loss_embedding: dict | None = None,
        loss_offset: dict | None = None,
        init_cfg: dict | None = None,
        class_weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__(init_cfg, class_weight)
        self.loss_heatmap = build_term(
            loss_heatmap or {'type': 'PenaltyReducedFocalLoss'}, 'loss_heatmap', ('heatmaps',)
        )
        self.loss_embedding = build_term(
            loss_embedding or {'type': 'PullPushLoss'}, 'loss_embedding', ('embeddings',)
        )
        loss_offset = loss_offset or {'type': 'MaskedSmoothL1Loss'}
        self.loss_offset = build_regression(loss_offset, 'loss_offset', 'deltas')

    def forward(self, outputs: CornerOutputsT, targets: CornerTargetsT) -> dict[str, Tensor]:
        """Returns ``loss_pull, loss_push`` and, for each keypoint such as ``tl``,
        ``loss_tl_heatmap, loss_tl_offset``."""
        return mean_over_stacks(lambda stack: self._terms(stack, targets), outputs)

    def _terms(self, outputs: CornerOutputsT, targets: CornerTargetsT) -> dict[str, Tensor]:
        tl, br, mask = targets.tl, targets.br, targets.mask
        embeddings = (
            gather_cells(outputs.tl.embedding, tl.index),
            gather_cells(outputs.br.embedding, br.index),
        )
        more = () if targets.weights is None else (targets.weights,)
        pull, push = self.loss_embedding(*embeddings, mask, *more)
        num_objects = targets.num_pos + 1e-4
        mask = weigh_slots(mask, targets.weights)
        return {
            'loss_pull': pull,
            'loss_push': push,
            **self._keypoint('tl', outputs.tl, tl, mask, num_objects),
            **self._keypoint('br', outputs.br, br, mask, num_objects),
        }

    def _keypoint(
        self,
        name: str,
        pred: Keypoint | CenterKeypoint,
        target: KeypointTarget,
        mask: Tensor,
        num_objects: Tensor,
    ) -> dict[str, Tensor]:
        offset = gather_cells(pred.offset, target.index)
        return {
            f'loss_{name}_heatmap': self._heatmap(pred.heatmap, target),
            f'loss_{name}_offset': compare_deltas(
                self.loss_offset, offset, target.offset, mask, num_objects
            ),
        }

    def _heatmap(self, pred: Tensor, target: KeypointTarget) -> Tensor:
        return heatmap_term(
            self.loss_heatmap, pred, target.heatmap, target.valid, self.weights(pred.shape[1])
        )
