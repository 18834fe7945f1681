"""Matching of anchors to objects by IoU."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mmdet_losses.ops.constant import constant, counting, made_once, zero_unless


class AnchorMatch(NamedTuple):
    """Result of matching, one entry per anchor; each field is (B, P)."""

    index: Tensor  # type: ignore[assignment]  # replaces tuple.index
    """int64, slot of the object of a positive anchor."""
    positive: Tensor
    """bool."""
    negative: Tensor
    """bool; anchors that are neither positive nor negative are ignored."""


def match_forced_best(iou: Tensor, mask: Tensor, rank: Tensor, positive_iou: float) -> AnchorMatch:
    """Matching of ssd.pytorch.

    Shape:
        iou: (B, M, P), zero in slots without an object. mask: (B, M) bool, slots with an object.
            rank: (P,) integers.

    Convention:
        An anchor is matched to the object with the highest IoU, and is positive if that is at
        least ``positive_iou``. Then every object is matched to its best anchor, whatever the IoU;
        if several objects have the same best anchor, the last one keeps it. Among equal anchors
        the lowest ``rank`` is the best.
    """
    anchors = iou.shape[2]
    best, index = iou.max(1)
    first = mask.to(torch.uint8).argmax(1, keepdim=True)  # for anchors without an overlap
    index = torch.where(mask.gather(1, index), index, first)
    none = constant(anchors, rank)
    chosen = torch.where(mask, _first_highest(iou, mask, rank), none)
    forced = _last_writer(chosen, mask.shape[1], anchors)
    taken = forced > 0
    index = torch.where(taken, forced - 1, index)
    positive = taken | (best >= positive_iou)
    return AnchorMatch(index, positive, ~positive)


def _first_highest(iou: Tensor, mask: Tensor, rank: Tensor) -> Tensor:
    """Anchor with the highest IoU of each object, of several the lowest ``rank``: (B, M)."""
    highest = iou.amax(2, keepdim=True)
    if iou.device.type == 'cpu' and not torch.compiler.is_compiling():
        highest = torch.where(mask[..., None], highest, 2)  # no anchor for an empty slot
        image, anchor, chosen = _anchors_of((iou == highest).any(1), iou, highest)
        row, item = _of_lowest_rank(chosen, rank, image, anchor, highest).nonzero(as_tuple=True)
        first = torch.zeros_like(highest.squeeze(2), dtype=torch.long)
        first[image[row], item] = anchor[row]
        return first
    return torch.where(iou == highest, rank, constant(iou.shape[2], rank)).argmin(2)


def _anchors_of(where: Tensor, iou: Tensor, highest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Images and numbers of the anchors in ``where``, (n,); their objects with that IoU, (n, M)."""
    image, anchor = where.nonzero(as_tuple=True)
    return image, anchor, iou[image, :, anchor] == highest.squeeze(2)[image]


def _of_lowest_rank(
    chosen: Tensor, rank: Tensor, image: Tensor, anchor: Tensor, highest: Tensor
) -> Tensor:
    """``chosen`` (n, M) for the anchor of the lowest rank only, per image and object."""
    ranked = torch.where(chosen, rank[anchor, None], len(rank)).to(rank.dtype)
    first = rank.new_full(highest.shape[:2], len(rank))
    first.scatter_reduce_(0, image[:, None].expand_as(ranked), ranked, 'amin')
    return chosen & (ranked == first[image])


def _last_writer(chosen: Tensor, slots: int, anchors: int) -> Tensor:
    """1 + the last slot that chose each anchor, 0 for anchors that no slot chose: (B, P)."""
    order = counting(slots + 1, chosen.device)[1:].expand_as(chosen)
    none = chosen.new_zeros(chosen.shape[0], anchors + 1)
    return none.scatter_reduce(1, chosen, order, 'amax')[:, :anchors]


def match_max_iou(
    iou: Tensor,
    positive_iou: float,
    negative_iou: float,
    min_pos_iou: float = 0.0,
    match_low_quality: bool = True,
    rank: Tensor | None = None,
) -> AnchorMatch:
    """Matching of Faster R-CNN and RetinaNet (MMDetection's ``MaxIoUAssigner``).

    Shape:
        iou: (B, M, P), zero in slots without an object. rank: (P,) integers.

    Convention:
        An anchor is positive from ``positive_iou`` on (>=), negative below ``negative_iou`` (<),
        and ignored in between. Every anchor with the highest IoU of an object is positive for it
        as well (``match_low_quality``), if that IoU is at least ``min_pos_iou``; if there are
        several such objects, for the last one. An object without any overlap has no such anchor.
        With ``rank`` an object has at most one such anchor, that of the lowest rank.
    """
    if iou.device.type == 'cpu' and not torch.compiler.is_compiling():
        limits = positive_iou, negative_iou, min_pos_iou
        return _match_few(iou, limits, match_low_quality, rank)
    best, index = iou.max(1)
    if not match_low_quality:
        positive = best >= positive_iou
        return AnchorMatch(index, positive, ~positive & (best < negative_iou))
    highest = _usable_highest(iou, min_pos_iou)
    chosen = iou == highest
    if rank is not None:
        ranked = torch.where(chosen, rank, constant(iou.shape[2], rank))
        chosen = chosen & (ranked == ranked.amin(2, keepdim=True))
    last = zero_unless(chosen, _order(iou.shape[1], iou.device)).amax(1).long()
    taken = last > 0
    positive = taken | (best >= positive_iou)
    return AnchorMatch(
        torch.where(taken, last - 1, index), positive, ~positive & (best < negative_iou)
    )


def _match_few(
    iou: Tensor, limits: tuple[float, float, float], match_low_quality: bool, rank: Tensor | None
) -> AnchorMatch:
    """:func:`match_max_iou` on a CPU: objects are searched for the few positive anchors only.

    Args:
        limits: ``positive_iou, negative_iou, min_pos_iou``.
    """
    positive_iou, negative_iou, min_pos_iou = limits
    best = iou.amax(1)
    highest = _usable_highest(iou, min_pos_iou if match_low_quality else 2)
    positive = (best >= positive_iou) | (iou == highest).any(1)
    image, anchor, chosen = _anchors_of(positive, iou, highest)
    if rank is not None:
        chosen = _of_lowest_rank(chosen, rank, image, anchor, highest)
    last = zero_unless(chosen, counting(iou.shape[1] + 1, iou.device)[1:]).amax(1)
    positive[image, anchor] = (last > 0) | (best[image, anchor] >= positive_iou)
    index = torch.zeros_like(positive, dtype=torch.long)
    own = iou[image, :, anchor].max(1).indices
    index[image, anchor] = torch.where(last > 0, last - 1, own)
    return AnchorMatch(index, positive, ~positive & (best < negative_iou))


def _usable_highest(iou: Tensor, min_pos_iou: float) -> Tensor:
    """Highest IoU of each object, (B, M, 1); 2, which no anchor has, where it is too low."""
    highest = iou.amax(2, keepdim=True)
    usable = (highest >= min_pos_iou) if min_pos_iou > 0 else (highest > 0)
    return torch.where(usable, highest, constant(2, iou))


@made_once()
def _order(slots: int, device: torch.device) -> Tensor:
    """(slots, 1) the numbers 1 ... slots, int16."""
    return torch.arange(1, slots + 1, dtype=torch.int16, device=device)[:, None]


def match_detectron(
    iou: Tensor, positive_iou: float, negative_iou: float
) -> tuple[AnchorMatch, Tensor]:
    """Matching of Detectron's RetinaNet.

    Convention:
        As :func:`match_max_iou`, but an anchor always has the object of its own highest IoU, and
        all anchors below ``negative_iou`` are negative, also those with the highest IoU of an
        object. The divisor of Detectron's losses still counts the latter.

    Returns:
        The match, and (B,) the number of anchors that the divisor counts.
    """
    claimed = match_max_iou(iou, positive_iou, negative_iou).positive
    best, index = iou.max(1)
    negative = best < negative_iou
    return AnchorMatch(index, claimed & ~negative, negative), claimed.sum(1)


def match_bipartite(iou: Tensor, mask: Tensor, rank: Tensor, positive_iou: float) -> AnchorMatch:
    """Matching of Caffe's SSD: pairs in the order of their IoU, then the other anchors.

    Shape:
        iou, mask, rank: as in :func:`match_forced_best`.

    Convention:
        Of all objects and anchors without a partner the pair with the highest IoU is matched,
        until no pair overlaps by more than 1e-6. So two objects never get the same best anchor;
        the second one gets its next best. The other anchors are matched as in
        :func:`match_forced_best`. Equal pairs are matched in the order of ``rank``, then of the
        objects. One step per object of the fullest image.
    """
    batch, objects, anchors = iou.shape
    order = rank.argsort()
    free = torch.where(mask[..., None], iou, 0)[..., order].transpose(1, 2)  # (B, P, M)
    owner = torch.full((batch, anchors), -1, device=iou.device)
    images = torch.arange(batch, device=iou.device)
    for _ in range(objects):
        best, pair = free.flatten(1).max(1)
        anchor, item = pair // objects, pair % objects
        owner[images, anchor] = torch.where(best > 1e-6, item, owner[images, anchor])
        free[images, anchor], free[images, :, item] = 0, 0
    owner = owner[:, rank]
    best, index = iou.max(1)
    first = mask.to(torch.uint8).argmax(1, keepdim=True)  # for anchors without an overlap
    index = torch.where(mask.gather(1, index), index, first)
    positive = (owner >= 0) | (best >= positive_iou)
    return AnchorMatch(torch.where(owner >= 0, owner, index), positive, ~positive)
