"""Criterion of CenterNetPoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from mmdet_losses.core import (
    DetectorLoss,
    build_regression,
    build_term,
    compare_boxes,
    compare_deltas,
    heatmap_term,
    mean_over_stacks,
    regression_kind,
    weigh_slots,
)
from mmdet_losses.detectors.center.centers import of_class, read_centers
from mmdet_losses.detectors.center.contracts import (
    CenterNetPointsTargets,
    CenterOutputsT,
    CenterTargetsT,
)
from mmdet_losses.ops import boxes_around, cell_xy, check_choice, gather_cells, promote
from mmdet_losses.registry import MODELS

Normalizer = Literal['values', 'objects']


def at_cells(
    term: nn.Module, pred: Tensor, target: Tensor, index: Tensor, mask: Tensor, divisor: Tensor
) -> Tensor:
    """A term over a map (B, D, H, W) read at cells, its sum divided by ``divisor``."""
    return compare_deltas(term, gather_cells(pred, index), target, mask, divisor)


def size_term(
    term: nn.Module,
    size: Tensor,
    offset: Tensor | None,
    targets: CenterTargetsT,
    divisor: Tensor,
) -> Tensor:
    """A term over sizes (B, M, 2), or over the boxes in cells that they give with the offsets.

    Args:
        offset: (B, 2, H, W) predicted map, or None.
        divisor: of a term of deltas; a term of boxes is divided by the number of objects + 1e-4.
    """
    mask = weigh_slots(targets.mask, targets.weights)
    if regression_kind(term) == 'deltas':
        return compare_deltas(term, size, targets.size, mask, divisor)
    width = targets.heatmap.shape[-1]
    center = cell_xy(targets.index, width) + targets.offset
    pred = boxes_around(read_centers(offset, targets.index, width), promote(size))
    goal = boxes_around(center, targets.size)
    return compare_boxes(term, pred, goal, mask, avg_factor=targets.mask.sum() + 1e-4)


@MODELS.register_module()
class CenterNetPointsLoss(DetectorLoss[CenterOutputsT, CenterTargetsT]):
    r"""Focal heatmap + 0.1 L1 size + L1 offset, each the mean over the network's stacks.

    Zhou, Wang and Krähenbühl, *Objects as Points*, eq. 1 to 4.

    Convention:
        The heatmap term divides by the positive cells of the batch. Size and offset are summed
        over the batch and divided by the number of regressed values + 1e-4 (two per object), so
        the term is a mean over coordinates; the official smooth-L1 variant divides by the number
        of objects + 1e-4 (``normalizer='objects'``). For targets with a dense size, ``loss_size``
        is called as ``(pred, target, weight, avg_factor)`` over the whole map (MMDetection's
        ``L1Loss``) and divided by the sum of its weights + 1e-4.

    Args:
        loss_heatmap: a term ``(pred, target)``; default ``PenaltyReducedFocalLoss``.
        loss_size: a term ``(pred, target, mask, avg_factor)`` of deltas, or a term of boxes, which
            gets the decoded boxes in cells; default ``MaskedL1Loss`` x 0.1.
        loss_offset: a term of deltas; default ``MaskedL1Loss``; unused without an offset branch.
        normalizer: 'values' or 'objects', see above.
        class_weight: factors of the cells of each class's heatmap channels.

    The weight of an object multiplies the cost of the cell of its centre, and those of its size
    and offset. Dense sizes are not weighted.

    Raises:
        ValueError: an unknown ``normalizer``, or a term that does not fit.
    """

    def __init__(
        self,
        loss_heatmap: dict | None = None,
        loss_size: dict | None = None,
        loss_offset: dict | None = None,
        normalizer: Normalizer = 'values',
        init_cfg: dict | None = None,
        class_weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__(init_cfg, class_weight)
        check_choice('normalizer', normalizer, ('values', 'objects'))
        self.values_per_object = 2 if normalizer == 'values' else 1
        self.loss_heatmap = build_term(
            loss_heatmap or {'type': 'PenaltyReducedFocalLoss'}, 'loss_heatmap', ('heatmaps',)
        )
        loss_size = loss_size or {'type': 'MaskedL1Loss', 'loss_weight': 0.1}
        self.loss_size = build_regression(loss_size, 'loss_size')
        loss_offset = loss_offset or {'type': 'MaskedL1Loss'}
        self.loss_offset = build_regression(loss_offset, 'loss_offset', 'deltas')

    def forward(self, outputs: CenterOutputsT, targets: CenterTargetsT) -> dict[str, Tensor]:
        """Returns ``loss_heatmap, loss_size`` and, with that branch, ``loss_offset``."""
        return mean_over_stacks(lambda stack: self._terms(stack, targets), outputs)

    def _terms(self, outputs: CenterOutputsT, targets: CenterTargetsT) -> dict[str, Tensor]:
        divisor = self._divisor(targets.mask)
        weights = self.weights(outputs.heatmap.shape[1])
        terms = {
            'loss_heatmap': heatmap_term(
                self.loss_heatmap, outputs.heatmap, targets.heatmap, targets.counted, weights
            ),
            'loss_size': self._size(outputs, targets, divisor),
        }
        if outputs.offset is not None:
            terms['loss_offset'] = at_cells(
                self.loss_offset,
                outputs.offset,
                targets.offset,
                targets.index,
                weigh_slots(targets.mask, targets.weights),
                divisor,
            )
        return terms

    def _divisor(self, mask: Tensor) -> Tensor:
        return self.values_per_object * mask.sum() + 1e-4

    def _size(self, outputs: CenterOutputsT, targets: CenterTargetsT, divisor: Tensor) -> Tensor:
        pred = outputs.size
        if isinstance(targets, CenterNetPointsTargets) and targets.dense_size is not None:
            if regression_kind(self.loss_size) != 'deltas':
                raise ValueError(
                    "loss_size compares boxes, but size_target='dense' gives sizes without "
                    "centres; choose a term of deltas, or size_target='object'."
                )
            size, weight = targets.dense_size
            divisor = weight.sum() + 1e-4
            return self.loss_size(pred * weight, size * weight, weight > 0, avg_factor=divisor)
        pred = gather_cells(pred, targets.index)
        if pred.shape[-1] != 2:
            pred = of_class(pred, targets.labels)
        return size_term(self.loss_size, pred, outputs.offset, targets, divisor)
