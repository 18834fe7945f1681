"""Class targets of darknet's layers, where objects can share one anchor of a cell."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mmdet_losses.detectors.yolo.darknet_encoder import Code
from mmdet_losses.detectors.yolo.grids import Slots
from mmdet_losses.detectors.yolo.maps import first_in_cell, one_hot

FOCAL_ALPHA = 0.5


class ClassOptions(NamedTuple):
    """Options of the class deltas."""

    code: Code
    smoothing: float = 0.0
    """eps: positive targets are 1 - eps / 2, negative ones eps / 2."""
    focal: bool = False
    """Modulate the deltas by the class of the first object, alpha 0.5, gamma 2."""
    multipliers: Tensor | None = None
    """(C,) weight of each class."""
    normalizer: float = 1.0
    """Factor of the first object's class, used together with ``multipliers``."""


class ClassTargets(NamedTuple):
    """One row per slot; only the row of the first object of an anchor counts."""

    target: Tensor
    """(B, A, K, C)."""
    weight: Tensor
    """(B, A, K, C)."""
    first: Tensor
    """(B, A, K) bool."""
    same: Tensor | None
    """(B, A, K, K) bool, both slots hold an object and share the anchor of one cell; None if no
    slots do."""

    def rising(self, logits: Tensor) -> Tensor:
        """Number of classes with a positive delta at the anchor of each slot: (B, A, K)."""
        count = ((self.target > logits.sigmoid()).sum(-1) * self.first).to(logits)
        if self.same is None:
            return count
        return torch.where(self.same, count[..., None, :], 0).sum(-1)


def class_targets(
    logits: Tensor, slots: Slots, options: ClassOptions, shared: bool = True
) -> ClassTargets:
    """Multi-label targets of the anchors that slots share.

    Convention:
        The first object of an anchor sets the deltas of all classes, each later one only that of
        its own class; see also :func:`_overwritten`.

    Shape:
        logits: (B, A, K, C).

    Args:
        shared: slots can share the anchor of a cell.
    """
    own = one_hot(slots.labels, logits)
    same, union, later, first = None, own > 0, torch.zeros_like(own, dtype=torch.bool), slots.mask
    if shared:
        pair = slots.mask[..., :, None] & slots.mask[..., None, :]
        same = pair & (slots.index[..., :, None] == slots.index[..., None, :])
        counted = same
        if options.code == 'redmon':
            counted = same & ~_overwritten(logits, slots.labels, same)[..., None, :]
        union = (counted.to(logits) @ own) > 0
        later = (same.triu(1).to(logits) @ own) > 0
        first = first_in_cell(slots.index, slots.mask, slots.grid.cells)
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
    return ClassTargets(target, weight, first, same)


def _overwritten(logits: Tensor, labels: Tensor, same: Tensor) -> Tensor:
    """Slots whose class a later object of the anchor overwrites in Redmon's code: (B, A, K) bool.

    His code takes an anchor for a new one if the delta of class 0 is exactly zero. So an object
    sets all classes again if the score of class 0 is 1 in float32 and the object before it has
    class 0, or if the score is 0 and no object before it has class 0.
    """
    score = logits[..., 0].sigmoid()
    before = same.tril(-1)
    order = torch.arange(labels.shape[-1], device=labels.device)
    previous = torch.where(before, order, -1).amax(-1)
    follows_zero = (labels == 0).gather(-1, previous.clamp(min=0))
    has_zero = (before & (labels == 0)[..., None, :]).any(-1)
    resets = torch.where(score == 1, follows_zero, (score == 0) & ~has_zero) & (previous >= 0)
    return (same.triu(1) & resets[..., None, :]).any(-1)
