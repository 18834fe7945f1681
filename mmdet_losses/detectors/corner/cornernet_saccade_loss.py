"""Criterion of CornerNet-Saccade."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmdet_losses.core import build_term, heatmap_term, stacks
from mmdet_losses.detectors.corner.contracts import (
    CornerNetSaccadeOutputs,
    CornerNetSaccadeTargets,
    KeypointTarget,
)
from mmdet_losses.detectors.corner.cornernet_loss import CornerNetLoss
from mmdet_losses.ops import positives_divisor
from mmdet_losses.registry import MODELS


@MODELS.register_module(name=['CornerNetSaccadeLoss', 'CornerNet_Saccade_Loss'])
class CornerNetSaccadeLoss(CornerNetLoss[CornerNetSaccadeOutputs, CornerNetSaccadeTargets]):
    r"""CornerNet's loss over the valid cells, + focal attention maps.

    Law et al., *CornerNet-Lite: Efficient Keypoint Based Object Detection*, section 3.

    Convention:
        The heatmap terms skip the windows of invalid objects, but positives inside them still
        count in the divisor. Each attention map divides by its own positives. The attention term
        is the mean over the S stacks divided by S once more, as in the official training: with
        three stacks its weight is 1/9, not 1/3.

    Args:
        loss_attention: a term ``(pred, target)``; default ``PenaltyReducedFocalLoss``.

    The other arguments are those of ``CornerNetLoss``; ``loss_heatmap`` must also take
    ``weight, avg_factor``.

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
        class_weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__(loss_heatmap, loss_embedding, loss_offset, init_cfg, class_weight)
        self.loss_attention = build_term(
            loss_attention or {'type': 'PenaltyReducedFocalLoss'}, 'loss_attention', ('heatmaps',)
        )
        self.normalizer = getattr(self.loss_heatmap, 'normalizer', 'positives')
        if self.normalizer == 'positives_per_image':
            raise ValueError(
                "normalizer is 'positives_per_image' in loss_heatmap, which CornerNetSaccadeLoss "
                'does not support: it also counts positives in skipped windows. Choose '
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
        valid = targets.attention_valid or [None] * len(targets.attentions)
        scales = zip(outputs.attentions, targets.attentions, valid, strict=True)
        terms['loss_attention'] = torch.stack(
            [heatmap_term(self.loss_attention, *scale) for scale in scales]
        ).sum()
        return terms

    def _heatmap(self, pred: Tensor, target: KeypointTarget) -> Tensor:
        num_pos = (target.heatmap.value == 1).sum()
        divisor = positives_divisor(num_pos, self.normalizer)
        weights = self.weights(pred.shape[1])
        return heatmap_term(
            self.loss_heatmap, pred, target.heatmap, target.valid, weights, avg_factor=divisor
        )
