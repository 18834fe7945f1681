"""Criteria of the corner family."""

from __future__ import annotations

from torch import Tensor

from mmdet_losses.core import DetectorLoss, build_term, heatmap_term, mean_over_stacks, stacks
from mmdet_losses.detectors.corner.contracts import (
    CenterNetTripletOutputs,
    CenterNetTripletTargets,
    CornerNetOutputs,
    CornerNetSaccadeOutputs,
    CornerNetSaccadeTargets,
    CornerNetTargets,
)
from mmdet_losses.ops import gather_cells, positives_divisor
from mmdet_losses.registry import MODELS


@MODELS.register_module(name=['CornerNetLoss', 'CornerNet_Loss'])
class CornerNetLoss(DetectorLoss[CornerNetOutputs, CornerNetTargets]):
    r"""Focal heatmaps + 0.1 pull + 0.1 push + smooth L1 offsets, of CornerNet and its Squeeze.

    Law and Deng, *CornerNet: Detecting Objects as Paired Keypoints*, eq. 6.

    Convention:
        Both corners are added, not averaged; every term is the mean over the network's stacks.
        A heatmap divides by its positive cells in the batch. An offset term sums both
        coordinates and divides by the objects of the batch + 1e-4. Pull and push are divided per
        image and then summed over images, so their share grows with the images of a process.

    Args:
        loss_heatmap: a term ``(pred, target)``; default ``PenaltyReducedFocalLoss``
            (``clamp=1e-4`` is the official saturation).
        loss_embedding: a term ``(tl, br, mask)`` that returns pull and push; default
            ``PullPushLoss``, 0.1 each.
        loss_offset: a term ``(pred, target, mask, avg_factor)``; default ``MaskedSmoothL1Loss``.
    """

    points: tuple[str, ...] = ('tl', 'br')
    """Keypoints with a heatmap and an offset: the beginning of the fields' names."""

    def __init__(
        self,
        loss_heatmap: dict | None = None,
        loss_embedding: dict | None = None,
        loss_offset: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.loss_heatmap = build_term(loss_heatmap or {'type': 'PenaltyReducedFocalLoss'})
        self.loss_embedding = build_term(loss_embedding or {'type': 'PullPushLoss'})
        self.loss_offset = build_term(loss_offset or {'type': 'MaskedSmoothL1Loss'})

    def forward(self, outputs: CornerNetOutputs, targets: CornerNetTargets) -> dict[str, Tensor]:
        """Returns ``loss_pull, loss_push`` and, a corner, ``loss_tl_heatmap, loss_tl_offset``."""
        return mean_over_stacks(lambda stack: self._terms(stack, targets), outputs)

    def _terms(self, outputs: CornerNetOutputs, targets: CornerNetTargets) -> dict[str, Tensor]:
        objects = targets.mask.sum() + 1e-4
        terms = {}
        for point in self.points:
            terms[f'loss_{point}_heatmap'] = self._heatmap(point, outputs, targets)
            index = getattr(targets, f'{point}_index')
            terms[f'loss_{point}_offset'] = self.loss_offset(
                gather_cells(getattr(outputs, f'{point}_offset'), index),
                getattr(targets, f'{point}_offset'),
                targets.mask,
                avg_factor=objects,
            )
        terms['loss_pull'], terms['loss_push'] = self.loss_embedding(
            gather_cells(outputs.tl_embedding, targets.tl_index),
            gather_cells(outputs.br_embedding, targets.br_index),
            targets.mask,
        )
        return terms

    def _heatmap(self, point: str, outputs: CornerNetOutputs, targets: CornerNetTargets) -> Tensor:
        pred, target = (getattr(each, f'{point}_heatmap') for each in (outputs, targets))
        return heatmap_term(self.loss_heatmap, pred, target)


@MODELS.register_module()
class CenterNetTripletLoss(CornerNetLoss):
    """CornerNet's loss with a third keypoint, the centre, which has no embedding.

    Duan et al., *CenterNet: Keypoint Triplets for Object Detection*, eq. 2. Arguments and
    conventions as in :class:`CornerNetLoss`; terms ``loss_center_heatmap`` and
    ``loss_center_offset`` join its own.
    """

    points = ('tl', 'br', 'center')

    def forward(
        self, outputs: CenterNetTripletOutputs, targets: CenterNetTripletTargets
    ) -> dict[str, Tensor]:
        """Returns CornerNet's terms and ``loss_center_heatmap, loss_center_offset``."""
        return super().forward(outputs, targets)


@MODELS.register_module(name=['CornerNetSaccadeLoss', 'CornerNet_Saccade_Loss'])
class CornerNetSaccadeLoss(CornerNetLoss):
    r"""CornerNet's loss over the cells that count, + focal attention maps.

    Law et al., *CornerNet-Lite: Efficient Keypoint Based Object Detection*, section 3.

    Convention:
        The windows of invalid objects do not count in the heatmaps, but positives inside them
        still count in the divisor. Each attention map divides by its own positives. The attention
        term is the mean over the S stacks divided by S once more: that is what was trained, and
        weighs it 1/9 instead of 1/3 with the official three stacks.

    Args:
        loss_attention: a term ``(pred, target)``; default ``PenaltyReducedFocalLoss``.

    The other arguments are its parent's; ``loss_heatmap`` also takes ``weight, avg_factor``.

    Raises:
        ValueError: ``loss_heatmap`` with ``normalizer='positives_per_image'``.
    """

    def __init__(
        self,
        loss_heatmap: dict | None = None,
        loss_embedding: dict | None = None,
        loss_offset: dict | None = None,
        loss_attention: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(loss_heatmap, loss_embedding, loss_offset, init_cfg=init_cfg)
        self.loss_attention = build_term(loss_attention or {'type': 'PenaltyReducedFocalLoss'})
        self.normalizer = getattr(self.loss_heatmap, 'normalizer', 'positives')
        if self.normalizer == 'positives_per_image':
            raise ValueError(
                "normalizer='positives_per_image' of loss_heatmap does not exist in "
                'CornerNetSaccadeLoss, which counts positives in masked windows too; choose '
                "'positives' or 'positives_all_ranks'."
            )

    def forward(
        self, outputs: CornerNetSaccadeOutputs, targets: CornerNetSaccadeTargets
    ) -> dict[str, Tensor]:
        """Returns CornerNet's terms and ``loss_attention``."""
        terms = super().forward(outputs, targets)
        terms['loss_attention'] = terms['loss_attention'] / len(stacks(outputs))
        return terms

    def _terms(
        self, outputs: CornerNetSaccadeOutputs, targets: CornerNetSaccadeTargets
    ) -> dict[str, Tensor]:
        terms = super()._terms(outputs, targets)
        scales = zip(outputs.attentions, targets.attentions, strict=True)
        terms['loss_attention'] = sum(
            heatmap_term(self.loss_attention, pred, target) for pred, target in scales
        )
        return terms

    def _heatmap(
        self, point: str, outputs: CornerNetSaccadeOutputs, targets: CornerNetSaccadeTargets
    ) -> Tensor:
        pred, target = (getattr(each, f'{point}_heatmap') for each in (outputs, targets))
        return heatmap_term(
            self.loss_heatmap,
            pred,
            target,
            weight=getattr(targets, f'{point}_valid'),
            avg_factor=positives_divisor((target.value == 1).sum(), self.normalizer),
        )
