"""Maps as lists of anchors, and anchors as grids with separate x and y extents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor


class Extents(NamedTuple):
    """One axis of the anchors of a map: N cells along it, A anchors per cell; each (A, N)."""

    low: Tensor
    high: Tensor
    center: Tensor
    size: Tensor

    @classmethod
    def around(cls, center: Tensor, size: Tensor) -> Extents:
        """Extents from centres and sizes."""
        return cls(center - size / 2, center + size / 2, center, size)

    @classmethod
    def between(cls, low: Tensor, high: Tensor) -> Extents:
        """Extents from edges."""
        return cls(low, high, (low + high) * 0.5, high - low)


class GridAnchors(NamedTuple):
    """Anchors of one map.

    The x extent of an anchor depends only on its column and the y extent only on its row, so most
    of an IoU can be computed per row and column instead of per cell.
    """

    x: Extents
    y: Extents

    @property
    def shape(self) -> tuple[int, int, int]:
        """(A, H, W)."""
        return self.x.size.shape[0], self.y.size.shape[1], self.x.size.shape[1]

    def cxcywh(self) -> Tensor:
        """(A * H * W, 4) centres and sizes, anchor-major."""
        return self._flat(self.x.center, self.y.center, self.x.size, self.y.size)

    def xyxy(self) -> Tensor:
        """(A * H * W, 4) edges, anchor-major."""
        return self._flat(self.x.low, self.y.low, self.x.high, self.y.high)

    def _flat(self, *axes: Tensor) -> Tensor:
        shape = self.shape
        columns = [
            each[:, None, :].expand(shape) if i % 2 == 0 else each[:, :, None].expand(shape)
            for i, each in enumerate(axes)  # x, y, x, y
        ]
        return torch.stack(columns, -1).flatten(0, 2)


def grid_overlap(
    boxes: Tensor, anchors: GridAnchors, mode: Literal['iou', 'iof'] = 'iou'
) -> Tensor:
    """Overlap of boxes (..., 4) xyxy with every anchor of a map: (..., A * H * W), no gradient.

    'iou' divides the common area by the union, 'iof' by the area of the anchor. Anchors have an
    area, so neither is zero.
    """
    with torch.no_grad():
        x1, y1, x2, y2 = (edge[..., None, None] for edge in boxes.unbind(-1))
        width = (torch.minimum(x2, anchors.x.high) - torch.maximum(x1, anchors.x.low)).clamp_(0)
        height = (torch.minimum(y2, anchors.y.high) - torch.maximum(y1, anchors.y.low)).clamp_(0)
        inter = height[..., :, None] * width[..., None, :]
        sides_x, sides_y = anchors.x.high - anchors.x.low, anchors.y.high - anchors.y.low
        area = sides_x[:, None, :] * sides_y[:, :, None]
        if mode == 'iof':
            return inter.div_(area).flatten(-3)
        union = ((x2 - x1) * (y2 - y1))[..., None] + area
        return inter.div_(union.sub_(inter)).flatten(-3)


def flatten_levels(maps: Sequence[Tensor], depth: int) -> Tensor:
    """Maps (B, A * depth, H, W), anchor-major, as one list (B, P, depth).

    The order of P is level, anchor, row, column.
    """
    flat = [each.unflatten(1, (-1, depth)).flatten(3).transpose(2, 3) for each in maps]
    return torch.cat([each.flatten(1, 2) for each in flat], 1)


def unflatten_levels(flat: Tensor, shapes: Sequence[tuple[int, int, int]]) -> tuple[Tensor, ...]:
    """Inverse of :func:`flatten_levels`, for levels of (A, H, W) anchors."""
    sizes = [a * h * w for a, h, w in shapes]
    levels = []
    for level, (a, h, w) in zip(flat.split(sizes, 1), shapes, strict=True):
        maps = level.unflatten(1, (a, h * w)).transpose(2, 3)
        levels.append(maps.reshape(len(flat), -1, h, w))
    return tuple(levels)


def cell_major_rank(shapes: Sequence[tuple[int, int, int]], device: torch.device) -> Tensor:
    """Position of each anchor of :func:`flatten_levels` in the order level, row, column, anchor.

    This is the order of the official codes, which decides between equal anchors. (P,) int64.
    """
    ranks, start = [], 0
    for a, h, w in shapes:
        rank = torch.arange(h * w * a, device=device).view(h * w, a).t().reshape(-1)
        ranks.append(rank + start)
        start += a * h * w
    return torch.cat(ranks)
