"""Which anchor stands for which object, by overlap."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Match(NamedTuple):
    """One entry an anchor, (B, P) each."""

    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    """int64, the object (slot) that the anchor stands for, or would stand for."""
    positive: Tensor
    """bool."""
    negative: Tensor
    """bool; an anchor that is neither is ignored."""


def match_forced_best(iou: Tensor, mask: Tensor, rank: Tensor, positive_iou: float) -> Match:
    """ssd.pytorch's jaccard matching.

    Shape:
        iou: (B, M, P), zero in slots without an object. mask: (B, M) bool, the slots that hold
            one. rank: (P,) int64.

    Convention:
        An anchor takes its best object and is positive from ``positive_iou`` on (>=). Then every
        object takes its best anchor whatever the overlap; of several objects with the same best
        anchor the last one keeps it. Among equal anchors the lowest ``rank`` is best.
    """
    priors = iou.shape[2]
    best, index = iou.max(1)
    first = mask.to(torch.uint8).argmax(1, keepdim=True)  # for anchors that touch no object
    index = torch.where(mask.gather(1, index), index, first)
    highest = iou.amax(2, keepdim=True)
    rank = rank.to(torch.int32)
    chosen = torch.where(iou == highest, rank, priors).argmin(2)
    chosen = torch.where(mask, chosen, priors)
    forced = _last_writer(chosen, mask.shape[1], priors)
    taken = forced > 0
    index = torch.where(taken, forced - 1, index)
    positive = taken | (best >= positive_iou)
    return Match(index, positive, ~positive)


def _last_writer(chosen: Tensor, slots: int, priors: int) -> Tensor:
    """1 + the last slot that chose each anchor, 0 where none did: (B, P)."""
    order = torch.arange(1, slots + 1, device=chosen.device).expand_as(chosen)
    nobody = chosen.new_zeros(chosen.shape[0], priors + 1)
    return nobody.scatter_reduce(1, chosen, order, 'amax')[:, :priors]


def match_max_iou(iou: Tensor, mask: Tensor, positive_iou: float, negative_iou: float) -> Match:
    """The matching of Faster R-CNN and RetinaNet (MMDetection's ``MaxIoUAssigner``).

    Shape:
        iou: (B, M, P). mask: (B, M) bool, the slots that hold an object.

    Convention:
        Positive from ``positive_iou`` on (>=), negative below ``negative_iou`` (<), between them
        ignored. Every anchor that shares an object's highest overlap is positive for it as well,
        the last object first; an object that no anchor touches has none.
    """
    iou = torch.where(mask[..., None], iou, -1)
    best, index = iou.max(1)
    highest = iou.amax(2, keepdim=True)
    highest = torch.where(highest > 0, highest, 2)
    order = torch.arange(1, iou.shape[1] + 1, dtype=torch.int16, device=iou.device)[:, None]
    last = torch.where(iou == highest, order, order.new_zeros(())).amax(1).long()
    taken = last > 0
    positive = taken | (best >= positive_iou)
    return Match(torch.where(taken, last - 1, index), positive, ~positive & (best < negative_iou))
