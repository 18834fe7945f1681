"""Maps as lists of anchors, and anchors as grids with separate x and y extents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mmdet_losses.ops.constant import made_once


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
    boxes: Tensor,
    anchors: GridAnchors,
    mode: Literal['iou', 'iof'] = 'iou',
    out: Tensor | None = None,
) -> Tensor:
    """Overlap of boxes (..., 4) xyxy with every anchor of a map: (..., A * H * W), no gradient.

    'iou' divides the common area by the union, 'iof' by the area of the anchor. Anchors have an
    area, so neither is zero.

    Args:
        out: memory for the result.
    """
    with torch.no_grad():
        x1, y1, x2, y2 = (edge[..., None, None] for edge in boxes.unbind(-1))
        width = (torch.minimum(x2, anchors.x.high) - torch.maximum(x1, anchors.x.low)).clamp_(0)
        height = (torch.minimum(y2, anchors.y.high) - torch.maximum(y1, anchors.y.low)).clamp_(0)
        maps = None if out is None else out.unflatten(-1, anchors.shape)
        inter = torch.mul(height[..., :, None], width[..., None, :], out=maps)
        sides_x, sides_y = anchors.x.high - anchors.x.low, anchors.y.high - anchors.y.low
        area = sides_x[:, None, :] * sides_y[:, :, None]
        if mode == 'iof':
            return inter.div_(area).flatten(-3)
        union = ((x2 - x1) * (y2 - y1))[..., None] + area
        return inter.div_(union.sub_(inter)).flatten(-3)


class AnchorTable(NamedTuple):
    """Anchors of several maps; a column or row is numbered over all anchors of all maps."""

    levels: tuple[GridAnchors, ...]
    anchors: Tensor
    """(P, 4) cxcywh, in the order of :func:`flatten_levels`."""
    columns: Tensor
    """(2, X) low and high x."""
    rows: Tensor
    """(2, Y) low and high y."""
    column: Tensor
    """(P,) int64, the column of each anchor."""
    row: Tensor
    """(P,) int64."""
    area: Tensor
    """(P,)."""

    @classmethod
    def of(cls, levels: Sequence[GridAnchors]) -> AnchorTable:
        """The table of some maps."""
        columns, rows = (
            torch.stack([torch.cat([each[i].flatten() for each in axis]) for i in (0, 1)])
            for axis in ([level.x for level in levels], [level.y for level in levels])
        )
        numbers: list[tuple[Tensor, Tensor]] = []
        x_start = y_start = 0
        for level in levels:
            a, h, w = level.shape
            x, y = (torch.arange(n, device=columns.device) for n in (a * w, a * h))
            column = (x_start + x).view(a, 1, w).expand(a, h, w)
            row = (y_start + y).view(a, h, 1).expand(a, h, w)
            numbers.append((column.flatten(), row.flatten()))
            x_start, y_start = x_start + a * w, y_start + a * h
        column, row = (torch.cat(each) for each in zip(*numbers, strict=True))
        sides = columns[1] - columns[0], rows[1] - rows[0]
        return cls(
            levels=tuple(levels),
            anchors=torch.cat([level.cxcywh() for level in levels]),
            columns=columns,
            rows=rows,
            column=column,
            row=row,
            area=sides[0][column] * sides[1][row],
        )

    @property
    def shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(A, H, W) of every map."""
        return tuple(level.shape for level in self.levels)

    def iou(self, boxes: Tensor) -> Tensor:
        """:func:`grid_overlap` of boxes (..., 4) with the anchors of all maps: (..., P).

        A GPU reads the common widths and heights by column and row, in a few launches for any
        number of maps. A CPU is faster map by map.
        """
        if boxes.device.type == 'cpu' and not torch.compiler.is_compiling():
            joined = boxes.new_empty((*boxes.shape[:-1], len(self.area)))
            parts = joined.split([a * h * w for a, h, w in self.shapes], -1)
            for level, part in zip(self.levels, parts, strict=True):
                grid_overlap(boxes, level, out=part)
            return joined
        with torch.no_grad():
            x1, y1, x2, y2 = (edge[..., None] for edge in boxes.unbind(-1))
            (x_low, x_high), (y_low, y_high) = self.columns, self.rows
            width = (torch.minimum(x2, x_high) - torch.maximum(x1, x_low)).clamp_(0)
            height = (torch.minimum(y2, y_high) - torch.maximum(y1, y_low)).clamp_(0)
            inter = height[..., self.row].mul_(width[..., self.column])
            union = (x2 - x1) * (y2 - y1) + self.area
            return inter.div_(union.sub_(inter))


def flatten_levels(maps: Sequence[Tensor], depth: int) -> Tensor:
    """Maps (B, A * depth, H, W), anchor-major, as one list (B, P, depth).

    The order of P is level, anchor, row, column.
    """
    flat = [each.unflatten(1, (-1, depth)).flatten(3).transpose(2, 3) for each in maps]
    return torch.cat([each.flatten(1, 2) for each in flat], 1)


def channels_per_anchor(maps: Sequence[Tensor], anchors: int) -> int:
    """Depth of maps (B, A * depth, H, W) that have ``anchors`` anchors per image.

    Raises:
        ValueError: the number of channels per anchor is no whole number.
    """
    logits = sum(math.prod(each.shape[1:]) for each in maps)
    if logits % anchors:
        raise ValueError(
            f'The maps have {logits} logits per image for {anchors} anchors, which is no '
            'whole number; give head and encoder the same anchors.'
        )
    return logits // anchors


def unflatten_levels(flat: Tensor, shapes: Sequence[tuple[int, int, int]]) -> tuple[Tensor, ...]:
    """Inverse of :func:`flatten_levels`, for levels of (A, H, W) anchors."""
    sizes = [a * h * w for a, h, w in shapes]
    levels = []
    for level, (a, h, w) in zip(flat.split(sizes, 1), shapes, strict=True):
        maps = level.unflatten(1, (a, h * w)).transpose(2, 3)
        levels.append(maps.reshape(len(flat), -1, h, w))
    return tuple(levels)


@made_once(16)
def cell_major_rank(shapes: Sequence[tuple[int, int, int]], device: torch.device) -> Tensor:
    """Position of each anchor of :func:`flatten_levels` in the order level, row, column, anchor.

    This is the order of the official codes, which decides between equal anchors. (P,) int32.
    """
    ranks, start = [], 0
    for a, h, w in shapes:
        rank = torch.arange(h * w * a, device=device).view(h * w, a).t().reshape(-1)
        ranks.append(rank + start)
        start += a * h * w
    return torch.cat(ranks).int()
