"""Class targets of darknet's [yolo] layer, where objects can share one anchor of a cell."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mmdet_losses.detectors.yolo.grids import Slots
from mmdet_losses.detectors.yolo.maps import first_in_cell, one_hot

FOCAL_ALPHA = 0.5


class ClassOptions(NamedTuple):
    """Options of the class deltas."""

    smoothing: float
    """eps: positive targets are 1 - eps / 2, negative ones eps / 2."""
    focal: bool
    """Modulate the deltas by the class of the first object, alpha 0.5, gamma 2."""
    multipliers: Tensor | None
    """(C,) weight of each class."""
    normalizer: float
    """Factor of the first object's class, used together with ``multipliers``."""


class ClassTargets(NamedTuple):
    """One row per slot; only the row of the first object of an anchor counts."""

    target: Tensor
    """(B, A, K, C)."""
    weight: Tensor
    """(B, A, K, C)."""
    first: Tensor
    """(B, A, K) bool."""
    same: Tensor
    """(B, A, K, K) bool; both slots hold an object and share the anchor of one cell."""

    def rising(self, logits: Tensor) -> Tensor:
        """Number of classes with a positive delta at the anchor of each slot: (B, A, K)."""
        count = ((self.target > logits.sigmoid()).sum(-1) * self.first).to(logits)
        return torch.where(self.same, count[..., None, :], 0).sum(-1)


def class_targets(logits: Tensor, slots: Slots, options: ClassOptions) -> ClassTargets:
    """Multi-label targets of the anchors that slots share.

    Convention:
        The first object of an anchor sets the deltas of all classes, each later one only that of
        its own class.

    Shape:
        logits: (B, A, K, C).
    """
    pair = slots.mask[..., :, None] & slots.mask[..., None, :]
    same = pair & (slots.index[..., :, None] == slots.index[..., None, :])
    own = one_hot(slots.labels, logits)
    union = (same.to(logits) @ own) > 0
    later = (same.triu(1).to(logits) @ own) > 0
    eps = options.smoothing
    target = union * (1 - eps) + eps / 2
    weight = torch.ones_like(logits)
    if options.multipliers is not None:
        weight = torch.where(union, options.multipliers.to(logits), weight)
        weight = torch.where((own > 0) & ~later, weight * options.normalizer, weight)
    if options.focal:
        target = torch.where(later, 1 - eps / 2, own)
        score = (logits.sigmoid() * own).sum(-1, keepdim=True) + 1e-15
        slope = -(1 - score) * (2 * score * score.log() + score - 1)
        weight = torch.where(later, weight, FOCAL_ALPHA * slope)
    first = first_in_cell(slots.index, slots.mask, slots.grid.cells)
    return ClassTargets(target, weight, first, same)
