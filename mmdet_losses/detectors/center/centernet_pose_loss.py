"""Criterion of CenterNetPose."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mmdet_losses.core import build_regression, build_term, heatmap_term, weigh_slots
from mmdet_losses.detectors.center.centernet_points_loss import (
    CenterNetPointsLoss,
    Normalizer,
    at_cells,
)
from mmdet_losses.detectors.center.contracts import CenterNetPoseOutputs, CenterNetPoseTargets
from mmdet_losses.registry import MODELS


@MODELS.register_module(name=['CenterNetPoseLoss', 'MultiPoseLoss'])
class CenterNetPoseLoss(CenterNetPointsLoss[CenterNetPoseOutputs, CenterNetPoseTargets]):
    r"""CenterNetPoints' terms, and the same three for the keypoints; means over the stacks.

    Zhou, Wang and Krähenbühl, *Objects as Points*, section 4.2.

    Convention:
        ``loss_keypoints`` (centre to keypoint) sums over visible keypoints and divides by the
        number of their coordinates + 1e-4 (two per keypoint). Size and both offsets divide by
        twice the number of persons or keypoints + 1e-4, with ``normalizer='objects'`` (the
        official smooth-L1 variant) by their number + 1e-4. For targets with dense keypoints,
        ``loss_keypoints`` is called over the whole map and divided by the sum of its weights +
        1e-4.

    Args:
        loss_heatmap, loss_keypoint_heatmap: terms ``(pred, target)``; default
            ``PenaltyReducedFocalLoss``.
        loss_size: a term ``(pred, target, mask, avg_factor)``; default ``MaskedL1Loss`` x 0.1.
        loss_offset, loss_keypoint_offset: the same; default ``MaskedL1Loss``.
        loss_keypoints: a term ``(pred, target, weight, avg_factor)``; default
            ``MaskedWeightedL1Loss``.
        normalizer: 'values' or 'objects', see above.

    The weight of a person also multiplies the costs of its keypoints.

    Raises:
        ValueError: an unknown ``normalizer``.
    """

    def __init__(
        self,
        loss_heatmap: dict | None = None,
        loss_size: dict | None = None,
        loss_offset: dict | None = None,
        loss_keypoints: dict | None = None,
        loss_keypoint_heatmap: dict | None = None,
        loss_keypoint_offset: dict | None = None,
        normalizer: Normalizer = 'values',
        init_cfg: dict | None = None,
        class_weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__(loss_heatmap, loss_size, loss_offset, normalizer, init_cfg, class_weight)
        loss_keypoints = loss_keypoints or {'type': 'MaskedWeightedL1Loss'}
        self.loss_keypoints = build_regression(loss_keypoints, 'loss_keypoints', 'deltas')
        self.loss_keypoint_heatmap = build_term(
            loss_keypoint_heatmap or {'type': 'PenaltyReducedFocalLoss'},
            'loss_keypoint_heatmap',
            ('heatmaps',),
        )
        self.loss_keypoint_offset = build_regression(
            loss_keypoint_offset or {'type': 'MaskedL1Loss'}, 'loss_keypoint_offset', 'deltas'
        )

    def forward(
        self, outputs: CenterNetPoseOutputs, targets: CenterNetPoseTargets
    ) -> dict[str, Tensor]:
        """Returns ``loss_heatmap, loss_size, loss_keypoints`` and, with those branches,
        ``loss_offset, loss_keypoint_heatmap, loss_keypoint_offset``."""
        return super().forward(outputs, targets)

    def _terms(
        self, outputs: CenterNetPoseOutputs, targets: CenterNetPoseTargets
    ) -> dict[str, Tensor]:
        terms = super()._terms(outputs, targets)
        terms['loss_keypoints'] = self._keypoints(outputs.keypoints, targets)
        if outputs.keypoint_heatmap is not None:
            terms['loss_keypoint_heatmap'] = heatmap_term(
                self.loss_keypoint_heatmap,
                outputs.keypoint_heatmap,
                targets.keypoint_heatmap,
                targets.keypoint_counted,
            )
        if outputs.keypoint_offset is not None:
            mask, weights = targets.keypoint_mask.flatten(1), targets.weights
            if weights is not None:
                weights = weights.repeat_interleave(targets.keypoint_mask.shape[-1], 1)
            terms['loss_keypoint_offset'] = at_cells(
                self.loss_keypoint_offset,
                outputs.keypoint_offset,
                targets.keypoint_offset,
                targets.keypoint_index,
                weigh_slots(mask, weights),
                self._divisor(mask),
            )
        return terms

    def _keypoints(self, pred: Tensor, targets: CenterNetPoseTargets) -> Tensor:
        if targets.dense_keypoints is not None:
            keypoints, weight = targets.dense_keypoints
            return self.loss_keypoints(pred, keypoints, weight, avg_factor=weight.sum() + 1e-4)
        weight = targets.keypoint_mask.repeat_interleave(2, -1)
        return at_cells(
            self.loss_keypoints,
            pred,
            targets.keypoints,
            targets.index,
            weigh_slots(weight, None if targets.weights is None else targets.weights[..., None]),
            weight.sum() + 1e-4,
        )
