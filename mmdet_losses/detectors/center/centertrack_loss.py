"""Criterion of CenterTrack."""

from __future__ import annotations

from torch import Tensor

from mmdet_losses.core import DetectorLoss, build_term, heatmap_term, mean_over_stacks
from mmdet_losses.detectors.center.centernet_points_loss import at_cells
from mmdet_losses.detectors.center.contracts import CenterTrackOutputs, CenterTrackTargets
from mmdet_losses.registry import MODELS


@MODELS.register_module(name=['CenterTrackLoss', 'GenericLoss'])
class CenterTrackLoss(DetectorLoss[CenterTrackOutputs, CenterTrackTargets]):
    r"""Focal heatmap, and L1 at the objects for each branch of the network.

    Zhou, Koltun and Krähenbühl, *Tracking Objects as Points*, section 3.

    Convention:
        The heatmap counts positives by object. Every L1 term divides by the number of its values
        + 1e-4: two per object, four for the edges, and for the displacement two per object that
        is in the previous frame.

    Args:
        loss_heatmap: a term ``(pred, target, weight)`` or, if its attribute ``gathers_positives``
            is true, ``(pred, target, weight, index, labels, mask)``; default
            ``CenterTrackFocalLoss``.
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
        heatmap = heatmap_term(self.loss_heatmap, outputs.heatmap, targets.heatmap, **cells)
        terms = {'loss_heatmap': heatmap}
        for name in ('size', 'offset', 'tracking', 'ltrb_amodal', 'ltrb'):
            pred, target = getattr(outputs, name), getattr(targets, name)
            if pred is None:
                continue
            mask = targets.tracking_mask if name == 'tracking' else targets.mask
            divisor = target.shape[-1] * mask.sum() + 1e-4
            term = getattr(self, f'loss_{name}')
            terms[f'loss_{name}'] = at_cells(
                term, pred, target, targets.index, mask[..., None], divisor
            )
        return terms
