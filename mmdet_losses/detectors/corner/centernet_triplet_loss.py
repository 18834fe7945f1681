"""Criterion of CenterNet keypoint triplets."""

from __future__ import annotations

from torch import Tensor

from mmdet_losses.core import weigh_slots
from mmdet_losses.detectors.corner.contracts import (
    CenterNetTripletOutputs,
    CenterNetTripletTargets,
)
from mmdet_losses.detectors.corner.cornernet_loss import CornerNetLoss
from mmdet_losses.registry import MODELS


@MODELS.register_module()
class CenterNetTripletLoss(CornerNetLoss[CenterNetTripletOutputs, CenterNetTripletTargets]):
    """CornerNet's loss with a third keypoint, the centre, which has no embedding.

    Duan et al., *CenterNet: Keypoint Triplets for Object Detection*, eq. 2. Arguments and
    conventions as in ``CornerNetLoss``; adds ``loss_center_heatmap`` and ``loss_center_offset``.
    """

    def _terms(
        self, outputs: CenterNetTripletOutputs, targets: CenterNetTripletTargets
    ) -> dict[str, Tensor]:
        mask, count = weigh_slots(targets.mask, targets.weights), targets.num_pos + 1e-4
        center = self._keypoint('center', outputs.center, targets.center, mask, count)
        return {**super()._terms(outputs, targets), **center}
