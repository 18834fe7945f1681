"""Class targets of darknet's layers, where objects can share one anchor of a cell."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mmdet_losses.detectors.yolo.darknet_encoder import Code
from mmdet_losses.detectors.yolo.grids import Slots
from mmdet_losses.detectors.yolo.maps import first_slot, last_slot
from mmdet_losses.ops import constant, counting, zero_unless

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
    weight: Tensor | None
    """(B, A, K, C); None: 1."""
    first: Tensor
    """(B, A, K) bool."""
    leader: Tensor | None
    """(B, A, K) the first slot with the anchor of each slot; None if no slots share one."""

    def rising(self, logits: Tensor) -> Tensor:
        """Number of classes with a positive delta at the anchor of each slot: (B, A, K)."""
        count = (self.target > logits.sigmoid()).sum(-1)
        if self.leader is None:
            return count
        return count.gather(2, self.leader.clamp(max=count.shape[2] - 1))


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
    own = slots.labels[..., None] == counting(logits.shape[-1], logits.device)
    union, later, leader, first = own, None, None, slots.mask
    if shared:
        leader = first_slot(slots.index, slots.mask, slots.grid.cells)
        first = slots.mask & (leader == counting(leader.shape[2], leader.device))
        counted = slots.mask
        if options.code == 'redmon':
            counted = counted & ~_overwritten(logits, slots)
        union = _classes_of(counted, leader, slots.labels, union)
        if options.focal or options.multipliers is not None:
            later = _classes_of(slots.mask & ~first, leader, slots.labels, union)
    eps = options.smoothing
    target = union * (1 - eps) + eps / 2 if eps else union.to(logits)
    weight = None
    if options.multipliers is not None:
        weight = torch.where(union, options.multipliers.to(logits), constant(1, logits))
        own_alone = own if later is None else own & ~later
        weight = torch.where(own_alone, weight * options.normalizer, weight)
    if options.focal:
        score = zero_unless(own, logits.sigmoid()).sum(-1, keepdim=True) + 1e-15
        slope = -(1 - score) * (2 * score * score.log() + score - 1)
        target, focus = own.to(logits), FOCAL_ALPHA * slope
        if later is not None:
            target = torch.where(later, 1 - eps / 2, target)
            before = constant(1, logits) if weight is None else weight
            focus = torch.where(later, before, focus)
        weight = focus
    return ClassTargets(target, weight, first, leader)


def _classes_of(mask: Tensor, leader: Tensor, labels: Tensor, like: Tensor) -> Tensor:
    """Classes of the slots in ``mask``, in the row of the leader of each: (B, A, K, C) bool."""
    slots, classes = like.shape[2:]
    place = leader * classes + labels
    place = torch.where(mask, place, constant(slots * classes, place))
    found = like.new_zeros((*like.shape[:2], slots * classes + 1))
    return found.scatter(2, place, 1)[..., :-1].unflatten(2, (slots, classes))


def _overwritten(logits: Tensor, slots: Slots) -> Tensor:
    """Slots whose class a later object of the anchor overwrites in Redmon's code: (B, A, K) bool.

    His code takes an anchor for a new one if the delta of class 0 is exactly zero. So an object
    sets all classes again if the score of class 0 is 1 in float32 and the object before it has
    class 0, or if the score is 0 and no object before it has class 0.
    """
    index, mask, cells = slots.index, slots.mask, slots.grid.cells
    order = counting(index.shape[2], index.device)
    zero, last = mask & (slots.labels == 0), order == last_slot(index, mask, cells)
    score = logits[..., 0].sigmoid()
    until_zero = order <= last_slot(index, zero & ~last, cells)
    before_zero = ~last & (order < first_slot(index, zero, cells))
    return torch.where(score == 1, until_zero, (score == 0) & before_zero)
