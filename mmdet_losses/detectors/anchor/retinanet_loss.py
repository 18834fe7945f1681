"""Criterion of RetinaNet."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mmdet_losses.core import weigh_slots
from mmdet_losses.detectors.anchor.common import AnchorLoss, Normalizer, anchor_depth
from mmdet_losses.detectors.anchor.contracts import RetinaNetOutputs, RetinaNetTargets
from mmdet_losses.ops import flatten_levels
from mmdet_losses.registry import MODELS


@MODELS.register_module()
class RetinaNetLoss(AnchorLoss[RetinaNetOutputs, RetinaNetTargets]):
    r"""Focal loss over positive and negative anchors, L1 over the positives.

    Convention:
        Both sums are divided by the number of positive anchors plus the number of images without
        one. The result equals MMDetection's RetinaHead. Detectron adds one per image
        (``normalizer='positives_and_images'``, with ``convention='detectron'`` of the encoder).

    Args:
        loss_cls: a term ``(pred, labels, counted, avg_factor)``; default ``SigmoidFocalLoss``.
        loss_box: a term of deltas or of decoded boxes in input pixels, ``(pred, target, mask,
            avg_factor)``; default ``MaskedL1Loss``.
        normalizer: divisor of both sums; see
            :func:`~mmdet_losses.ops.reduce.positives_divisor`.
        class_weight: factors of the cost of every logit of a class, of objects and background.

    The weight of an object multiplies both costs of its positive anchors.

    Raises:
        ValueError: an unknown normalizer, or targets for other maps.

    Reference:
        Lin et al., *Focal Loss for Dense Object Detection*, 2017, section 4.
    """

    def __init__(
        self,
        loss_cls: dict | None = None,
        loss_box: dict | None = None,
        normalizer: Normalizer = 'positives_and_empty_images',
        init_cfg: dict | None = None,
        class_weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__(
            loss_cls or {'type': 'SigmoidFocalLoss'},
            loss_box or {'type': 'MaskedL1Loss'},
            normalizer,
            init_cfg,
            class_weight,
        )

    def forward(self, outputs: RetinaNetOutputs, targets: RetinaNetTargets) -> dict[str, Tensor]:
        """Returns ``loss_cls, loss_box``."""
        divisor = self.divisor(targets.counts, targets)
        depth = anchor_depth(outputs.cls, targets.shapes)
        maps = getattr(self.loss_cls, 'accepts_maps', False)
        cls = outputs.cls if maps else flatten_levels(outputs.cls, depth)
        weights = self.weights(depth)
        counted = weigh_slots(targets.counted, targets.weights)
        if weights is not None:
            counted = counted[..., None] * weights
        return {
            'loss_cls': self.loss_cls(cls, targets.labels, counted, avg_factor=divisor),
            'loss_box': self.box_term(outputs.box, targets, divisor),
        }
