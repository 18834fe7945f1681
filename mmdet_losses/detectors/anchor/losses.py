"""Criteria of the anchor family."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from mmdet_losses.core import DetectorLoss, build_term
from mmdet_losses.detectors.anchor.contracts import (
    RetinaNetOutputs,
    RetinaNetTargets,
    SSDOutputs,
    SSDTargets,
)
from mmdet_losses.ops import check_choice, flatten_levels, positives_divisor
from mmdet_losses.registry import MODELS

Normalizer = Literal['positives', 'positives_and_empty_images', 'positives_all_ranks']
NORMALIZERS: tuple[str, ...] = get_args(Normalizer)


@MODELS.register_module(name=['SSDLoss', 'MultiBoxLoss'])
class SSDLoss(DetectorLoss[SSDOutputs, SSDTargets]):
    r"""MultiBox loss: cross-entropy with hard negative mining, smooth L1 over the positives.

    Liu et al., *SSD: Single Shot MultiBox Detector*, eq. 1 to 3.

    Convention:
        Both sums are divided by the positives of the whole batch (at least 1), smooth L1 bends
        at 1. MMDetection divides by the positives plus the number of images without one
        (``normalizer='positives_and_empty_images'``). The outputs of MMDetection's ``SSDHead``
        fit: its two tuples are the two fields of
        :class:`~mmdet_losses.detectors.anchor.contracts.SSDOutputs`.

    Args:
        loss_cls: a term ``(maps, labels, avg_factor)``; default ``HardNegativeCrossEntropyLoss``.
        loss_box: a term ``(pred, target, mask, avg_factor)``; default ``MaskedSmoothL1Loss``.
        normalizer: what both sums are divided by; see
            :func:`~mmdet_losses.ops.reduce.positives_divisor`.

    Raises:
        ValueError: an unknown normalizer.
    """

    def __init__(
        self,
        loss_cls: dict | None = None,
        loss_box: dict | None = None,
        normalizer: Normalizer = 'positives',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_choice('normalizer', normalizer, NORMALIZERS)
        self.loss_cls = build_term(loss_cls or {'type': 'HardNegativeCrossEntropyLoss'})
        self.loss_box = build_term(loss_box or {'type': 'MaskedSmoothL1Loss'})
        self.normalizer: Normalizer = normalizer

    def forward(self, outputs: SSDOutputs, targets: SSDTargets) -> dict[str, Tensor]:
        """Returns ``loss_cls, loss_box``."""
        divisor = positives_divisor(targets.mask.sum(1), self.normalizer)
        _depth(outputs.cls, targets.shapes)
        box = flatten_levels(outputs.box, 4)
        return {
            'loss_cls': self.loss_cls(outputs.cls, targets.labels, avg_factor=divisor),
            'loss_box': self.loss_box(box, targets.box, targets.mask, avg_factor=divisor),
        }


MultiBoxLoss = SSDLoss


@MODELS.register_module()
class RetinaNetLoss(DetectorLoss[RetinaNetOutputs, RetinaNetTargets]):
    r"""Focal loss over all counted anchors, L1 over the positives.

    Lin et al., *Focal Loss for Dense Object Detection*, section 4; equal to MMDetection's
    RetinaHead.

    Convention:
        Both sums are divided by the number of positive anchors plus the number of images without
        one, as in MMDetection.

    Args:
        loss_cls: a term ``(pred, labels, counted, avg_factor)``; default ``SigmoidFocalLoss``.
        loss_box: a term ``(pred, target, mask, avg_factor)``; default ``MaskedL1Loss``.
        normalizer: what both sums are divided by; see
            :func:`~mmdet_losses.ops.reduce.positives_divisor`.

    Raises:
        ValueError: an unknown normalizer.
    """

    def __init__(
        self,
        loss_cls: dict | None = None,
        loss_box: dict | None = None,
        normalizer: Normalizer = 'positives_and_empty_images',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_choice('normalizer', normalizer, NORMALIZERS)
        self.loss_cls = build_term(loss_cls or {'type': 'SigmoidFocalLoss'})
        self.loss_box = build_term(loss_box or {'type': 'MaskedL1Loss'})
        self.normalizer: Normalizer = normalizer

    def forward(self, outputs: RetinaNetOutputs, targets: RetinaNetTargets) -> dict[str, Tensor]:
        """Returns ``loss_cls, loss_box``."""
        divisor = positives_divisor(targets.mask.sum(1), self.normalizer)
        cls = flatten_levels(outputs.cls, _depth(outputs.cls, targets.shapes))
        box = flatten_levels(outputs.box, 4)
        return {
            'loss_cls': self.loss_cls(cls, targets.labels, targets.counted, avg_factor=divisor),
            'loss_box': self.loss_box(box, targets.box, targets.mask, avg_factor=divisor),
        }


def _depth(maps: tuple[Tensor, ...], shapes: tuple[tuple[int, int, int], ...]) -> int:
    """Channels of an anchor; the maps must be those that the targets were encoded for."""
    found = [tuple(each.shape[-2:]) for each in maps]
    wanted = [(height, width) for _, height, width in shapes]
    if found != wanted or maps[0].shape[1] % shapes[0][0]:
        raise ValueError(
            f'The network returns maps of {found} cells with {maps[0].shape[1]} channels but the '
            f'targets have {wanted} with {shapes[0][0]} anchors a cell; give head and encoder '
            'the same anchors.'
        )
    return maps[0].shape[1] // shapes[0][0]
