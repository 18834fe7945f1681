"""Criterion of SSD."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mmdet_losses.detectors.anchor.common import AnchorLoss, Normalizer, anchor_depth
from mmdet_losses.detectors.anchor.contracts import SSDOutputs, SSDTargets
from mmdet_losses.registry import MODELS


@MODELS.register_module(name=['SSDLoss', 'MultiBoxLoss'])
class SSDLoss(AnchorLoss[SSDOutputs, SSDTargets]):
    r"""MultiBox loss: cross-entropy with hard negative mining, smooth L1 over the positives.

    Convention:
        Both sums are divided by the number of positives in the batch (at least 1); smooth L1 has
        beta 1. MMDetection divides by the positives plus the number of images without one
        (``normalizer='positives_and_empty_images'``). The outputs of MMDetection's ``SSDHead``
        fit: its two tuples are the two fields of
        :class:`~mmdet_losses.detectors.anchor.contracts.SSDOutputs`.

    Args:
        loss_cls: a term ``(maps, labels, avg_factor)``, which also takes ``counted`` if the data
            have ignored regions; default ``HardNegativeCrossEntropyLoss``.
        loss_box: a term of deltas or of decoded boxes in input pixels, ``(pred, target, mask,
            avg_factor)``; default ``MaskedSmoothL1Loss``.
        normalizer: divisor of both sums; see
            :func:`~mmdet_losses.ops.reduce.positives_divisor`.
        class_weight: factors of the cost of an anchor, by its label; the background has 1.

    Raises:
        ValueError: an unknown normalizer, or targets for other maps.

    Reference:
        Liu et al., *SSD: Single Shot MultiBox Detector*, 2016, eq. 1 to 3.
    """

    def __init__(
        self,
        loss_cls: dict | None = None,
        loss_box: dict | None = None,
        normalizer: Normalizer = 'positives',
        init_cfg: dict | None = None,
        class_weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__(
            loss_cls or {'type': 'HardNegativeCrossEntropyLoss'},
            loss_box or {'type': 'MaskedSmoothL1Loss'},
            normalizer,
            init_cfg,
            class_weight,
        )

    def forward(self, outputs: SSDOutputs, targets: SSDTargets) -> dict[str, Tensor]:
        """Returns ``loss_cls, loss_box``."""
        divisor = self.divisor(targets.mask.sum(1), targets)
        depth = anchor_depth(outputs.cls, targets.shapes)
        weights = self.weights(depth - 1, background=1)
        counted = {} if targets.counted is None else {'counted': targets.counted}
        if weights is not None:
            counted['class_weight'] = weights
        return {
            'loss_cls': self.loss_cls(outputs.cls, targets.labels, avg_factor=divisor, **counted),
            'loss_box': self.box_term(outputs.box, targets, divisor),
        }


MultiBoxLoss = SSDLoss
