"""Raw maps of the YOLO family: their parts, and reading and writing of single cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core import Size, check_positive
from mmdet_losses.ops import constant, counting, promote, reject_below


class RawLevel(NamedTuple):
    """The parts of one map; A anchors per cell, N = H * W cells."""

    xy: Tensor
    """(B, A, 2, N)."""
    wh: Tensor
    """(B, A, 2, N)."""
    obj: Tensor
    """(B, A, N)."""
    cls: Tensor
    """(B, A, C, N)."""
    sigma: Tensor | None = None
    """(B, A, 4, N) logits of the standard deviations of x, y, w, h, if the network has them."""


def split_level(level: Tensor, anchors: int) -> RawLevel:
    """(B, A * (5 + C), H, W) to its parts, in at least float32.

    Raises:
        ValueError: the number of channels is not a multiple of the anchors, or below 5 per anchor.
    """
    return parts(by_anchor(promote(level), anchors))


def by_anchor(level: Tensor, anchors: int) -> Tensor:
    """(B, A * (5 + C), H, W) to (B, A, 5 + C, N); raises as :func:`split_level`."""
    channels = level.shape[1]
    if channels < 5 * anchors or channels % anchors:
        raise ValueError(
            f'A map has {channels} channels, which is not {anchors} anchors x (5 + classes); give '
            'predictor and encoder the same anchors.'
        )
    return level.unflatten(1, (anchors, -1)).flatten(3)


def parts(values: Tensor) -> RawLevel:
    """The parts of (B, A, 5 + C, N)."""
    xy, wh, obj, cls = values.split([2, 2, 1, values.shape[2] - 5], 2)
    return RawLevel(xy, wh, obj.squeeze(2), cls)


def join_level(raw: RawLevel, size: Size) -> Tensor:
    """The inverse of :func:`split_level`."""
    parts = torch.cat((raw.xy, raw.wh, raw.obj.unsqueeze(2), raw.cls), 2)
    return parts.flatten(1, 2).unflatten(2, size)


def take_cells(values: Tensor, index: Tensor) -> Tensor:
    """Read (B, A, D, N) or (B, A, N) at cells (B, A, K): (B, A, K, D) or (B, A, K)."""
    if values.dim() == 3:
        return values.gather(2, index)
    wide = index[:, :, None].expand(-1, -1, values.shape[2], -1)
    return values.gather(3, wide).transpose(2, 3)


def put_cells(values: Tensor, index: Tensor, mask: Tensor, cells: int, fill: float = 0) -> Tensor:
    """Write slots (B, A, K, D) or (B, A, K) to (B, A, D, N) or (B, A, N), ``fill`` elsewhere.

    Of several slots in one cell, any one is written.
    """
    target = torch.where(mask, index, constant(cells, index))
    if values.dim() == 4:
        values = values.transpose(2, 3)
        target = target[:, :, None].expand_as(values)
    empty = values.new_full((*values.shape[:-1], cells + 1), fill)
    return empty.scatter(-1, target, values)[..., :cells]


def last_in_cell(index: Tensor, mask: Tensor, cells: int) -> Tensor:
    """The last slot of each cell: (B, A, K) bool, at most one true slot per cell."""
    return mask & (last_slot(index, mask, cells) == counting(index.shape[2], index.device))


def first_in_cell(index: Tensor, mask: Tensor, cells: int) -> Tensor:
    """The first slot of each cell: (B, A, K) bool, at most one true slot per cell."""
    return mask & (first_slot(index, mask, cells) == counting(index.shape[2], index.device))


def last_slot(index: Tensor, mask: Tensor, cells: int) -> Tensor:
    """Position of the last true slot in the cell of each slot, -1 without: (B, A, K)."""
    return _outermost(index, mask, cells, 'amax', -1)


def first_slot(index: Tensor, mask: Tensor, cells: int) -> Tensor:
    """Position of the first true slot in the cell of each slot, K without: (B, A, K)."""
    return _outermost(index, mask, cells, 'amin', index.shape[2])


def _outermost(index: Tensor, mask: Tensor, cells: int, reduce: str, none: int) -> Tensor:
    order = counting(index.shape[2], index.device).expand_as(index)
    target = torch.where(mask, index, constant(cells, index))
    found = order.new_full((*index.shape[:2], cells + 1), none)
    return found.scatter_reduce(2, target, order, reduce).gather(2, index)


def one_hot(labels: Tensor, logits: Tensor) -> Tensor:
    """Labels (...) as zeros and ones (..., C) of the type of ``logits`` (..., C)."""
    return (labels[..., None] == counting(logits.shape[-1], labels.device)).to(logits)


def best_pairs(boxes: Tensor, scores: Tensor, score_thr: float, topk: int | None) -> InstanceData:
    """The best (box, class) pairs of an image, in descending order of score.

    Shape:
        boxes: (P, 4). scores: (P, C).

    Args:
        score_thr: pairs whose score is not above this are dropped.
        topk: largest number of pairs; None keeps all.

    On a GPU the number of pairs is fixed, and scores that are not above ``score_thr`` are -1.
    """
    if scores.device.type != 'cpu':
        best, order = scores.flatten().sort(descending=True, stable=True)
        best, order = best[:topk], order[:topk]
        box, label = order.div(scores.shape[1], rounding_mode='floor'), order % scores.shape[1]
        return InstanceData(bboxes=boxes[box], scores=reject_below(best, score_thr), labels=label)
    box, label = (scores > score_thr).nonzero(as_tuple=True)
    best = scores[box, label]
    if topk is not None and topk < len(best):
        kept = best.topk(topk).indices.sort().values
        box, label, best = box[kept], label[kept], best[kept]
    # pairs of equal score stay in this order, as officially
    best, order = best.sort(descending=True, stable=True)
    return InstanceData(bboxes=boxes[box[order]], scores=best, labels=label[order])


def check_anchors(anchors: Sequence[Sequence[Sequence[float]]]) -> None:
    """Raise ``ValueError`` unless every map has anchors, each a positive width and height."""
    pairs = (list, tuple)
    nested = bool(anchors) and all(
        isinstance(level, pairs) and level and all(isinstance(each, pairs) for each in level)
        for level in anchors
    )
    if not nested or any(len(each) != 2 for level in anchors for each in level):
        raise ValueError(
            f'anchors={anchors} is not a list of anchors per map; give [[(w, h), ...], ...].'
        )
    for anchor in (anchor for level in anchors for anchor in level):
        check_positive(f'anchor {tuple(anchor)}', anchor)
