"""Criterion of SSD."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.models.losses import CrossEntropyLoss
from torch import Tensor

from mmdet_losses.core import weigh_slots
from mmdet_losses.detectors.anchor.common import AnchorLoss, Normalizer, anchor_depth
from mmdet_losses.detectors.anchor.contracts import SSDOutputs, SSDTargets
from mmdet_losses.ops import flatten_levels
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
            have ignored priors; default ``HardNegativeCrossEntropyLoss``. Or, with
            ``use_sigmoid=True``, a term ``(logits, labels, weight, avg_factor)`` over all priors:
            ``SigmoidFocalLoss``, MMDetection's ``CrossEntropyLoss``.
        loss_box: a term of deltas or of decoded boxes in input pixels, ``(pred, target, mask,
            avg_factor)``; default ``MaskedSmoothL1Loss``.
        normalizer: divisor of both sums; Caffe's VALID is 'positives', BATCH_SIZE 'images', FULL
            'anchors' and NONE 'nothing'; see
            :func:`~mmdet_losses.ops.reduce.positives_divisor`.
        class_weight: factors of the cost of an anchor, by its label; the background has 1.

    The weight of an object multiplies both costs of its positive priors.

    Raises:
        ValueError: an unknown normalizer, or targets for other maps.

    Reference:
        Liu et al., *SSD: Single Shot MultiBox Detector*, 2016, eq. 1 to 3.
    """

    class_terms = ('mined classes', 'classes', 'flat classes')

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
        sigmoid = getattr(self.loss_cls, 'use_sigmoid', False)
        if sigmoid == targets.background:
            raise ValueError(
                f'use_sigmoid is {sigmoid} in loss_cls but {not sigmoid} in the encoder; give both '
                'the same, and background=False to the predictor with sigmoids.'
            )
        if sigmoid:
            cls = self._sigmoid_term(flatten_levels(outputs.cls, depth), targets, divisor)
            return {'loss_cls': cls, 'loss_box': self.box_term(outputs.box, targets, divisor)}
        weights = self.weights(depth - 1, background=1)
        counted = {} if targets.counted is None else {'counted': targets.counted}
        if weights is not None:
            counted['class_weight'] = weights
        if targets.weights is not None:
            counted['weight'] = targets.weights
        return {
            'loss_cls': self.loss_cls(outputs.cls, targets.labels, avg_factor=divisor, **counted),
            'loss_box': self.box_term(outputs.box, targets, divisor),
        }

    def _sigmoid_term(self, logits: Tensor, targets: SSDTargets, divisor: Tensor) -> Tensor:
        """A term of independent classes over all priors that count, as (n, C)."""
        weights = self.weights(logits.shape[-1])
        counted = torch.ones_like(targets.mask) if targets.counted is None else targets.counted
        factor = weigh_slots(counted, targets.weights).flatten().to(logits.dtype)
        factor = factor if weights is None else factor[:, None] * weights
        labels = targets.labels.flatten()
        if weights is not None and isinstance(self.loss_cls, CrossEntropyLoss):
            # with labels it takes one weight per prior, not one per class
            labels = F.one_hot(labels, logits.shape[-1] + 1)[:, :-1]
        return self.loss_cls(logits.flatten(0, 1), labels, factor, avg_factor=divisor)


MultiBoxLoss = SSDLoss
