"""Criteria of the centre family."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from mmdet_losses.core import DetectorLoss, build_term, heatmap_term, mean_over_stacks
from mmdet_losses.detectors.center.centers import of_class
from mmdet_losses.detectors.center.contracts import (
    CenterNetPointsOutputs,
    CenterNetPointsTargets,
    CenterNetPoseOutputs,
    CenterNetPoseTargets,
    CenterTrackOutputs,
    CenterTrackTargets,
)
from mmdet_losses.ops import check_choice, gather_cells
from mmdet_losses.registry import MODELS

Normalizer = Literal['values', 'objects']


def at_cells(
    term: nn.Module, pred: Tensor, target: Tensor, index: Tensor, mask: Tensor, divisor: Tensor
) -> Tensor:
    """A term over a map (B, D, H, W) read at cells, its sum divided by ``divisor``."""
    return term(gather_cells(pred, index), target, mask, avg_factor=divisor)


def _values_of(normalizer: str) -> int:
    check_choice('normalizer', normalizer, ('values', 'objects'))
    return 2 if normalizer == 'values' else 1


@MODELS.register_module()
class CenterNetPointsLoss(DetectorLoss[CenterNetPointsOutputs, CenterNetPointsTargets]):
    r"""Focal heatmap + 0.1 L1 size + L1 offset, each the mean over the network's stacks.

    Zhou, Wang and Krähenbühl, *Objects as Points*, eq. 1 to 4.

    Convention:
        The heatmap term divides by the positive cells of the batch. Size and offset are summed
        over the batch and divided by the number of regressed values + 1e-4 (two an object), so
        the term is a mean over coordinates; the official smooth-L1 variant divides by the number
        of objects + 1e-4 (``normalizer='objects'``). Targets with a dense size call
        ``loss_size`` as ``(pred, target, weight, avg_factor)`` over the whole map (MMDetection's
        ``L1Loss``), divided by the sum of its weights + 1e-4.

    Args:
        loss_heatmap: a term ``(pred, target)``; default ``PenaltyReducedFocalLoss``.
        loss_size: a term ``(pred, target, mask, avg_factor)``; default ``MaskedL1Loss`` x 0.1.
        loss_offset: the same; default ``MaskedL1Loss``; unused without an offset branch.
        normalizer: 'values' or 'objects', see above.

    Raises:
        ValueError: an unknown ``normalizer``.
    """

    def __init__(
        self,
        loss_heatmap: dict | None = None,
        loss_size: dict | None = None,
        loss_offset: dict | None = None,
        normalizer: Normalizer = 'values',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.values = _values_of(normalizer)
        self.loss_heatmap = build_term(loss_heatmap or {'type': 'PenaltyReducedFocalLoss'})
        self.loss_size = build_term(loss_size or {'type': 'MaskedL1Loss', 'loss_weight': 0.1})
        self.loss_offset = build_term(loss_offset or {'type': 'MaskedL1Loss'})

    def forward(
        self, outputs: CenterNetPointsOutputs, targets: CenterNetPointsTargets
    ) -> dict[str, Tensor]:
        """Returns ``loss_heatmap, loss_size`` and, with that branch, ``loss_offset``."""
        return mean_over_stacks(lambda stack: self._terms(stack, targets), outputs)

    def _terms(
        self, outputs: CenterNetPointsOutputs, targets: CenterNetPointsTargets
    ) -> dict[str, Tensor]:
        divisor = self.values * targets.mask.sum() + 1e-4
        terms = {
            'loss_heatmap': heatmap_term(self.loss_heatmap, outputs.heatmap, targets.heatmap),
            'loss_size': self._size(outputs.size, targets, divisor),
        }
        if outputs.offset is not None:
            terms['loss_offset'] = at_cells(
                self.loss_offset,
                outputs.offset,
                targets.offset,
                targets.index,
                targets.mask,
                divisor,
            )
        return terms

    def _size(self, pred: Tensor, targets: CenterNetPointsTargets, divisor: Tensor) -> Tensor:
        if targets.dense_size is not None:
            size, weight = targets.dense_size
            divisor = weight.sum() + 1e-4
            return self.loss_size(pred * weight, size * weight, weight > 0, avg_factor=divisor)
        pred = gather_cells(pred, targets.index)
        if pred.shape[-1] != 2:
            pred = of_class(pred, targets.labels)
        return self.loss_size(pred, targets.size, targets.mask, avg_factor=divisor)


@MODELS.register_module(name=['CenterNetPoseLoss', 'MultiPoseLoss'])
class CenterNetPoseLoss(DetectorLoss[CenterNetPoseOutputs, CenterNetPoseTargets]):
    r"""CenterNetPoints' terms, and the same three for the keypoints; means over the stacks.

    Zhou, Wang and Krähenbühl, *Objects as Points*, section 4.2.

    Convention:
        ``loss_keypoints`` (centre to keypoint) sums over visible keypoints and divides by the
        number of their coordinates + 1e-4 (two a keypoint). Size and both offsets divide by twice
        the number of persons or keypoints + 1e-4, with ``normalizer='objects'`` (the official
        smooth-L1 variant) by their number + 1e-4. Targets with dense keypoints call
        ``loss_keypoints`` over the whole map, divided by the sum of its weights + 1e-4.

    Args:
        loss_heatmap, loss_keypoint_heatmap: terms ``(pred, target)``; default
            ``PenaltyReducedFocalLoss``.
        loss_size: a term ``(pred, target, mask, avg_factor)``; default ``MaskedL1Loss`` x 0.1.
        loss_offset, loss_keypoint_offset: the same; default ``MaskedL1Loss``.
        loss_keypoints: a term ``(pred, target, weight, avg_factor)``; default
            ``MaskedWeightedL1Loss``.
        normalizer: 'values' or 'objects', see above.

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
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.values = _values_of(normalizer)
        focal, l1 = {'type': 'PenaltyReducedFocalLoss'}, {'type': 'MaskedL1Loss'}
        self.loss_heatmap = build_term(loss_heatmap or focal)
        self.loss_size = build_term(loss_size or {**l1, 'loss_weight': 0.1})
        self.loss_offset = build_term(loss_offset or l1)
        self.loss_keypoints = build_term(loss_keypoints or {'type': 'MaskedWeightedL1Loss'})
        self.loss_keypoint_heatmap = build_term(loss_keypoint_heatmap or focal)
        self.loss_keypoint_offset = build_term(loss_keypoint_offset or l1)

    def forward(
        self, outputs: CenterNetPoseOutputs, targets: CenterNetPoseTargets
    ) -> dict[str, Tensor]:
        """Returns ``loss_heatmap, loss_size, loss_keypoints`` and, with those branches,
        ``loss_offset, loss_keypoint_heatmap, loss_keypoint_offset``."""
        return mean_over_stacks(lambda stack: self._terms(stack, targets), outputs)

    def _terms(
        self, outputs: CenterNetPoseOutputs, targets: CenterNetPoseTargets
    ) -> dict[str, Tensor]:
        index, mask = targets.index, targets.mask
        persons = self.values * mask.sum() + 1e-4
        terms = {
            'loss_heatmap': heatmap_term(self.loss_heatmap, outputs.heatmap, targets.heatmap),
            'loss_size': at_cells(self.loss_size, outputs.size, targets.size, index, mask, persons),
            'loss_keypoints': self._keypoints(outputs.keypoints, targets),
        }
        if outputs.offset is not None:
            terms['loss_offset'] = at_cells(
                self.loss_offset, outputs.offset, targets.offset, index, mask, persons
            )
        if outputs.keypoint_heatmap is not None:
            terms['loss_keypoint_heatmap'] = heatmap_term(
                self.loss_keypoint_heatmap, outputs.keypoint_heatmap, targets.keypoint_heatmap
            )
        if outputs.keypoint_offset is not None:
            mask = targets.keypoint_mask.flatten(1)
            terms['loss_keypoint_offset'] = at_cells(
                self.loss_keypoint_offset,
                outputs.keypoint_offset,
                targets.keypoint_offset,
                targets.keypoint_index,
                mask,
                self.values * mask.sum() + 1e-4,
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
            weight,
            weight.sum() + 1e-4,
        )


@MODELS.register_module(name=['CenterTrackLoss', 'GenericLoss'])
class CenterTrackLoss(DetectorLoss[CenterTrackOutputs, CenterTrackTargets]):
    r"""Focal heatmap, L1 at the objects for each branch that the network has.

    Zhou, Koltun and Krähenbühl, *Tracking Objects as Points*, section 3.

    Convention:
        The heatmap counts positives by object. Every L1 term divides by the number of its values
        + 1e-4: two an object, four for the edges, and for the displacement two an object that was
        there in the previous picture.

    Args:
        loss_heatmap: a term ``(pred, target, weight)`` or, if it says ``gathers_positives``,
            ``(pred, target, weight, index, labels, mask)``; default ``CenterTrackFocalLoss``.
        loss_offset, loss_tracking: terms ``(pred, target, weight, avg_factor)``; default
            ``MaskedWeightedL1Loss``.
        loss_size, loss_ltrb_amodal, loss_ltrb: the same; default ``MaskedWeightedL1Loss`` x 0.1.
    """

    def __init__(
        self,
        loss_heatmap: dict | None = None,
        loss_size: dict | None = None,
        loss_offset: dict | None = None,
        loss_tracking: dict | None = None,
        loss_ltrb_amodal: dict | None = None,
        loss_ltrb: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        whole = {'type': 'MaskedWeightedL1Loss'}
        tenth = {**whole, 'loss_weight': 0.1}
        self.loss_heatmap = build_term(loss_heatmap or {'type': 'CenterTrackFocalLoss'})
        self.loss_size = build_term(loss_size or tenth)
        self.loss_offset = build_term(loss_offset or whole)
        self.loss_tracking = build_term(loss_tracking or whole)
        self.loss_ltrb_amodal = build_term(loss_ltrb_amodal or tenth)
        self.loss_ltrb = build_term(loss_ltrb or tenth)

    def forward(
        self, outputs: CenterTrackOutputs, targets: CenterTrackTargets
    ) -> dict[str, Tensor]:
        """Returns ``loss_heatmap`` and ``loss_<branch>`` of each branch that is not None."""
        return mean_over_stacks(lambda stack: self._terms(stack, targets), outputs)

    def _terms(self, outputs: CenterTrackOutputs, targets: CenterTrackTargets) -> dict[str, Tensor]:
        cells: dict = {'weight': None if targets.ignore is None else ~targets.ignore}
        if getattr(self.loss_heatmap, 'gathers_positives', False):
            cells.update(index=targets.index, labels=targets.labels, mask=targets.mask)
        terms = {
            'loss_heatmap': heatmap_term(
                self.loss_heatmap, outputs.heatmap, targets.heatmap, **cells
            )
        }
        for name in ('size', 'offset', 'tracking', 'ltrb_amodal', 'ltrb'):
            pred = getattr(outputs, name)
            if pred is None:
                continue
            target = getattr(targets, name)
            mask = targets.tracking_mask if name == 'tracking' else targets.mask
            term = getattr(self, f'loss_{name}')
            divisor = target.shape[-1] * mask.sum() + 1e-4
            terms[f'loss_{name}'] = at_cells(
                term, pred, target, targets.index, mask[..., None], divisor
            )
        return terms
