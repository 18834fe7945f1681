"""Raw YOLO maps taken apart, and boxes read out of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core import PaddedInstances, Size
from mmdet_losses.ops import boxes_around, constant, is_proper, promote


class RawLevel(NamedTuple):
    """One map by meaning; A anchors a cell, N = H * W cells."""

    xy: Tensor
    """(B, A, 2, N)."""
    wh: Tensor
    """(B, A, 2, N)."""
    obj: Tensor
    """(B, A, N)."""
    cls: Tensor
    """(B, A, C, N)."""


def split_level(level: Tensor, anchors: int, num_classes: int | None = None) -> RawLevel:
    """(B, A * (5 + C), H, W) to its parts, at least float32.

    Raises:
        ValueError: the channels do not fit the anchors and classes.
    """
    channels = level.shape[1]
    classes = channels // anchors - 5 if num_classes is None else num_classes
    if classes < 0 or channels != anchors * (5 + classes):
        raise ValueError(
            f'A map has {channels} channels, which is not {anchors} anchors x (5 + '
            f'{max(classes, 0)} classes); give predictor and encoder the same numbers.'
        )
    raw = promote(level).unflatten(1, (anchors, -1)).flatten(3)
    xy, wh, obj, cls = raw.split([2, 2, 1, classes], 2)
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

    Where slots share a cell, one of them stays.
    """
    target = torch.where(mask, index, cells)
    if values.dim() == 4:
        values = values.transpose(2, 3)
        target = target[:, :, None].expand_as(values)
    empty = values.new_full((*values.shape[:-1], cells + 1), fill)
    return empty.scatter(-1, target, values)[..., :cells]


def last_in_cell(index: Tensor, mask: Tensor, cells: int) -> Tensor:
    """Which slots (B, A, K) are the last of their cell: bool, at most one a cell."""
    slots = index.shape[2]
    order = torch.arange(1, slots + 1, device=index.device).expand_as(index)
    target = torch.where(mask, index, cells)
    highest = order.new_zeros((*index.shape[:2], cells + 1))
    highest = highest.scatter_reduce(2, target, order, 'amax')
    return mask & (highest.gather(2, target) == order)


def cell_corners(size: Size, like: Tensor) -> Tensor:
    """x and y of the corner of every cell: (2, H * W) in cells."""
    height, width = size
    x = torch.arange(width, device=like.device, dtype=like.dtype).expand(height, width)
    y = torch.arange(height, device=like.device, dtype=like.dtype)[:, None].expand(height, width)
    return torch.stack((x, y)).flatten(1)


def positive_anchors(
    index: Tensor, mask: Tensor, anchors: Tensor, size: Size, img_size: Size
) -> Tensor:
    """Anchors of the first image's positive slots, centred in their cells: (n, 4) xyxy pixels.

    Shape:
        index, mask: (B, A, K) cell and whether the slot is positive. anchors: (A, 2) width and
        height as fractions of the image. size: (H, W) of the map.
    """
    anchor, slot = mask[0].nonzero(as_tuple=True)
    cell = index[0][anchor, slot]
    pixels = constant([img_size[1], img_size[0]], anchors)
    grid = constant([size[1], size[0]], anchors)
    center = (torch.stack((cell % size[1], cell // size[1]), -1) + 0.5) / grid
    return boxes_around(center * pixels, anchors[anchor] * pixels)


def usable_boxes(
    padded: PaddedInstances, img_size: Size, num_classes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(B, M) ground truth that has a size, a known label and touches the image.

    Returns boxes (B, M, 4) xyxy pixels, a unit box where left out; labels, 0 there; the mask.
    """
    x1, y1, x2, y2 = padded.boxes.unbind(-1)
    inside = (x2 > 0) & (y2 > 0) & (x1 < img_size[1]) & (y1 < img_size[0])
    known = (padded.labels >= 0) & (padded.labels < num_classes)
    mask = padded.real & is_proper(padded.boxes) & inside & known
    unit = constant([0.0, 0.0, 1.0, 1.0], padded.boxes)
    return torch.where(mask[..., None], padded.boxes, unit), padded.labels * mask, mask


def best_pairs(
    boxes: Tensor, scores: Tensor, score_thr: float, topk: int | None
) -> list[InstanceData]:
    """The best (box, class) pairs of each image: boxes (B, P, 4), scores (B, P, C).

    At most ``topk`` with a score above ``score_thr``, by descending score.
    """
    classes = scores.shape[2]
    flat = scores.flatten(1)
    best, pair = flat.topk(flat.shape[1] if topk is None else min(topk, flat.shape[1]))
    results = []
    for box, score, index in zip(boxes, best, pair, strict=True):
        kept = score > score_thr
        index = index[kept]
        results.append(
            InstanceData(
                bboxes=box[index.div(classes, rounding_mode='floor')],
                scores=score[kept],
                labels=index % classes,
            )
        )
    return results


def check_levels(found: int, expected: int, what: str) -> None:
    """Raise ``ValueError`` unless the network has as many maps as ``what`` has entries."""
    if found != expected:
        raise ValueError(
            f'The network returns {found} maps but {what} has {expected} entries; make them equal.'
        )


def check_anchors(anchors: Sequence[Sequence[Sequence[float]]]) -> None:
    """Raise ``ValueError`` unless every map has anchors, each a positive width and height."""
    pairs = (list, tuple)
    if not anchors or not all(isinstance(level, pairs) and len(level) for level in anchors):
        raise ValueError(
            f'anchors={anchors} is no list of maps with at least one anchor each; give '
            '[[(w, h), ...], ...], one list a map.'
        )
    for anchor in (anchor for level in anchors for anchor in level):
        if not isinstance(anchor, pairs):
            raise ValueError(
                f'anchors={anchors} has the number {anchor} where an anchor should be; give '
                '[[(w, h), ...], ...], one list a map.'
            )
        if len(anchor) != 2 or not all(0 < side < math.inf for side in anchor):
            raise ValueError(
                f'Anchor {tuple(anchor)} is impossible; an anchor is a positive width and a '
                'positive height.'
            )


def check_channels(levels: Sequence[Tensor], anchors: Sequence[Sequence], num_classes: int) -> None:
    """Raise ``ValueError`` unless the maps (B, A * (5 + C), H, W) fit anchors and classes."""
    for level, own in zip(levels, anchors, strict=False):
        split_level(level, len(own), num_classes)
