"""Criterion of CenterTrack."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmdet_losses.core import (
    DetectorLoss,
    build_regression,
    build_term,
    compare_boxes,
    compare_deltas,
    heatmap_term,
    mean_over_stacks,
    regression_kind,
    weigh_cells,
    weigh_slots,
)
from mmdet_losses.detectors.center.centernet_points_loss import size_term
from mmdet_losses.detectors.center.contracts import (
    CenterNetPoseTargets,
    CenterTrackOutputs,
    CenterTrackTargets,
)
from mmdet_losses.ops import gather_cells
from mmdet_losses.registry import MODELS


@MODELS.register_module(name=['CenterTrackLoss', 'GenericLoss'])
class CenterTrackLoss(DetectorLoss[CenterTrackOutputs, CenterTrackTargets]):
    r"""Focal heatmap, and L1 at the objects for each branch of the network.

    Zhou, Koltun and Krähenbühl, *Tracking Objects as Points*, section 3.

    Convention:
        The heatmap counts positives by object. Every L1 term divides by the number of its values
        + 1e-4: two per object, four for the edges, two per keypoint, and for the displacement two
        per object that is in the previous frame. The heatmap of the keypoints counts its positives
        by keypoint.

    Args:
        loss_heatmap: a term ``(pred, target, weight)`` or, if its attribute ``gathers_positives``
            is true, ``(pred, target, weight, index, labels, mask)``; default
            ``CenterTrackFocalLoss``.
        loss_offset, loss_tracking: terms ``(pred, target, weight, avg_factor)``; default
            ``MaskedWeightedL1Loss``.
        loss_size, loss_ltrb_amodal, loss_ltrb: the same, or a term of boxes, which gets the decoded
            boxes in cells and is divided by the number of objects + 1e-4; default
            ``MaskedWeightedL1Loss`` x 0.1.
        loss_keypoints, loss_keypoint_heatmap, loss_keypoint_offset: of a network with poses; the
            defaults are those of ``loss_offset`` and ``loss_heatmap``.
        class_weight: factors of the cells of each class's heatmap channels.

    The weight of an object multiplies its positive in the heatmap, and its costs in the branches.

    Raises:
        ValueError: a term that does not fit its branch.
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
        class_weight: Sequence[float] | None = None,
        loss_keypoints: dict | None = None,
        loss_keypoint_heatmap: dict | None = None,
        loss_keypoint_offset: dict | None = None,
    ) -> None:
        super().__init__(init_cfg, class_weight)
        whole = {'type': 'MaskedWeightedL1Loss'}
        tenth = {**whole, 'loss_weight': 0.1}
        self.loss_heatmap = build_term(
            loss_heatmap or {'type': 'CenterTrackFocalLoss'}, 'loss_heatmap', ('heatmaps',)
        )
        self.loss_size = build_regression(loss_size or tenth, 'loss_size')
        self.loss_offset = build_regression(loss_offset or whole, 'loss_offset', 'deltas')
        self.loss_tracking = build_regression(loss_tracking or whole, 'loss_tracking', 'deltas')
        self.loss_ltrb_amodal = build_regression(loss_ltrb_amodal or tenth, 'loss_ltrb_amodal')
        self.loss_ltrb = build_regression(loss_ltrb or tenth, 'loss_ltrb')
        self.loss_keypoints = build_regression(loss_keypoints or whole, 'loss_keypoints', 'deltas')
        self.loss_keypoint_offset = build_regression(
            loss_keypoint_offset or whole, 'loss_keypoint_offset', 'deltas'
        )
        self.loss_keypoint_heatmap = build_term(
            loss_keypoint_heatmap or {'type': 'CenterTrackFocalLoss'},
            'loss_keypoint_heatmap',
            ('heatmaps',),
        )

    def forward(
        self, outputs: CenterTrackOutputs, targets: CenterTrackTargets
    ) -> dict[str, Tensor]:
        """Returns ``loss_heatmap`` and ``loss_<branch>`` of each branch that is not None."""
        return mean_over_stacks(lambda stack: self._terms(stack, targets), outputs)

    def _terms(self, outputs: CenterTrackOutputs, targets: CenterTrackTargets) -> dict[str, Tensor]:
        cells: dict = {}
        weights = self.weights(outputs.heatmap.shape[1])
        counted = None if targets.ignore is None else ~targets.ignore
        if getattr(self.loss_heatmap, 'gathers_positives', False):
            mask = targets.mask if weights is None else targets.mask * weights[targets.labels]
            mask = weigh_slots(mask, targets.weights)
            cells.update(index=targets.index, labels=targets.labels, mask=mask)
        else:
            objects = targets.labels, targets.index, targets.mask
            counted = weigh_cells(counted, targets.weights, *objects, targets.heatmap.shape)
        heatmap = heatmap_term(
            self.loss_heatmap, outputs.heatmap, targets.heatmap, counted, weights, **cells
        )
        terms = {'loss_heatmap': heatmap}
        for name in ('size', 'offset', 'tracking', 'ltrb_amodal', 'ltrb'):
            pred, target = getattr(outputs, name), getattr(targets, name)
            if pred is None:
                continue
            mask = targets.tracking_mask if name == 'tracking' else targets.mask
            divisor, count = target.shape[-1] * mask.sum() + 1e-4, mask.sum() + 1e-4
            mask = weigh_slots(mask, targets.weights)
            term, cells = getattr(self, f'loss_{name}'), gather_cells(pred, targets.index)
            if name == 'size':
                loss = size_term(term, cells, outputs.offset, targets, divisor)
            elif regression_kind(term) == 'boxes':  # edges around a common cell
                loss = compare_boxes(term, cells, target, mask, avg_factor=count)
            else:
                loss = compare_deltas(term, cells, target, mask[..., None], divisor)
            terms[f'loss_{name}'] = loss
        if targets.pose is not None:
            terms |= self._pose(outputs, targets.pose)
        return terms

    def _pose(
        self, outputs: CenterTrackOutputs, targets: CenterNetPoseTargets
    ) -> dict[str, Tensor]:
        """The terms of the keypoints.

        Raises:
            ValueError: the network has no branches for them.
        """
        if outputs.keypoints is None or outputs.keypoint_heatmap is None:
            raise ValueError(
                'The targets have keypoints, but the network has no branches for them; set '
                'num_keypoints of CenterTrackPredictor.'
            )
        mask, cells = targets.keypoint_mask.flatten(1), {}
        count, weights = mask.sum(), targets.weights
        if weights is not None:
            mask = mask * weights.repeat_interleave(targets.keypoint_mask.shape[-1], 1)
        if getattr(self.loss_keypoint_heatmap, 'gathers_positives', False):
            number = torch.arange(targets.keypoint_mask.shape[-1], device=mask.device)
            labels = number.expand(targets.keypoint_mask.shape).flatten(1)
            cells = dict(index=targets.keypoint_index, labels=labels, mask=mask)
        weight = targets.keypoint_mask.repeat_interleave(2, -1)
        weight = weigh_slots(weight, None if weights is None else weights[..., None])
        keypoints = gather_cells(outputs.keypoints, targets.index)
        terms = {
            'loss_keypoints': compare_deltas(
                self.loss_keypoints, keypoints, targets.keypoints, weight, 2 * count + 1e-4
            ),
            'loss_keypoint_heatmap': heatmap_term(
                self.loss_keypoint_heatmap,
                outputs.keypoint_heatmap,
                targets.keypoint_heatmap,
                targets.keypoint_counted,
                **cells,
            ),
        }
        if outputs.keypoint_offset is not None:
            terms['loss_keypoint_offset'] = compare_deltas(
                self.loss_keypoint_offset,
                gather_cells(outputs.keypoint_offset, targets.keypoint_index),
                targets.keypoint_offset,
                mask[..., None],
                2 * count + 1e-4,
            )
        return terms
