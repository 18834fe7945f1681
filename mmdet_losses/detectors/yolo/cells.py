"""Cells and anchors of one map, and of several maps as one list of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmdet_losses.ops import cell_xy, constant, made_once


class Place(NamedTuple):
    """Constants of predictions; x and y are the last dimension of each, or the second last one."""

    corner: Tensor
    """Column and row of the cell."""
    sides: Tensor
    """Columns and rows of the map."""
    anchors: Tensor
    """Width and height of the anchor as fractions of the image."""
    scale_xy: float | Tensor
    """Grid sensitivity, see :class:`Grid`."""
    shift: float | Tensor
    """Half of the sensitivity above 1."""

    def offset(self, xy: Tensor) -> Tensor:
        """Centre relative to the corner of its cell, in cells, from raw values."""
        score = xy.sigmoid()
        if not isinstance(self.scale_xy, Tensor) and self.scale_xy == 1:
            return score
        return score * self.scale_xy - self.shift

    def center(self, xy: Tensor) -> Tensor:
        """Points as fractions of the image, from raw values."""
        return (self.offset(xy) + self.corner) / self.sides


class Grid(NamedTuple):
    """Cells and anchors of one map, and how raw values become boxes."""

    anchors: Tensor
    """(A, 2) width and height as fractions of the image."""
    size: tuple[int, int]
    """(H, W)."""
    scale_xy: float = 1.0
    """Grid sensitivity: a centre is ``scale_xy * sigmoid(t) - (scale_xy - 1) / 2`` in its cell."""
    squared: bool = False
    """Sizes are anchors times (2 sigmoid(t))^2 instead of times exp(t)."""
    point: float = 0.0
    """The point of the box that x and y predict is its centre plus ``point`` times its size."""
    table: Tensor | None = None
    """Result of :meth:`constants`, made once by the encoder."""

    @property
    def cells(self) -> int:
        """H * W."""
        return self.size[0] * self.size[1]

    def at(self, index: Tensor) -> Place:
        """Constants of the anchors in the cells (B, A, K); x and y are the last dimension."""
        sides = constant(self.size[::-1], self.anchors)
        return self._place(cell_xy(index, self.size[1]), sides, self.anchors[:, None])

    def every(self) -> Place:
        """Constants of all anchors: (A, 2, N), or of a shape that broadcasts to this."""
        corner = cell_corners(self.size, self.anchors)
        sides = constant(self.size[::-1], self.anchors)[:, None]
        return self._place(corner, sides, self.anchors[..., None])

    def _place(self, corner: Tensor, sides: Tensor, anchors: Tensor) -> Place:
        return Place(corner, sides, anchors, self.scale_xy, (self.scale_xy - 1) / 2)

    def constants(self) -> Tensor:
        """:class:`Place` of all anchors as rows: (8, A * N), in the order anchor, row, column."""
        place, shape = self.every(), (len(self.anchors), -1, self.cells)
        scale = constant([[place.scale_xy], [place.shift]], self.anchors)
        rows = (place.corner, place.sides, place.anchors, scale)
        return torch.cat([each.expand(shape) for each in rows], 1).transpose(0, 1).flatten(1)


class JoinedGrid(NamedTuple):
    """Several grids as one list of P predictions, in the order map, anchor, row, column."""

    table: Tensor
    """(8, P), see :meth:`Grid.constants`."""
    lengths: tuple[int, ...]
    """Predictions of each map."""
    scale_xy: float | None
    """Grid sensitivity; None if it depends on the map."""
    squared: bool
    point: float

    @classmethod
    def of(cls, grids: Sequence[Grid]) -> JoinedGrid:
        """The grids of an encoder, which have one form of sizes and points."""
        tables = [grid.constants() if grid.table is None else grid.table for grid in grids]
        lengths = tuple(table.shape[1] for table in tables)
        first, same = grids[0], len({grid.scale_xy for grid in grids}) == 1
        scale_xy = first.scale_xy if same else None
        return cls(torch.cat(tables, 1), lengths, scale_xy, first.squared, first.point)

    @property
    def cells(self) -> int:
        """P."""
        return self.table.shape[1]

    def at(self, index: Tensor) -> Place:
        """Constants of the predictions (B, 1, K); x and y are the last dimension."""
        return self._place(self.table[:, index].movedim(0, -1), -1)

    def every(self) -> Place:
        """Constants of all predictions, (2, P) each."""
        return self._place(self.table, 0)

    def by_map(self, values: Sequence[float], dtype: torch.dtype) -> Tensor:
        """One value per map, repeated for its predictions: (P,)."""
        return _repeated(values, self.lengths, dtype, self.table.device)

    def _place(self, values: Tensor, dim: int) -> Place:
        corner, sides, anchors, scale_xy, shift = values.split([2, 2, 2, 1, 1], dim)
        if self.scale_xy is None:
            return Place(corner, sides, anchors, scale_xy, shift)
        return Place(corner, sides, anchors, self.scale_xy, (self.scale_xy - 1) / 2)


@made_once(16)
def _repeated(
    values: Sequence[float], lengths: Sequence[int], dtype: torch.dtype, device: torch.device
) -> Tensor:
    pairs = zip(values, lengths, strict=True)
    return torch.cat([torch.full((n,), value, dtype=dtype, device=device) for value, n in pairs])


def cell_corners(size: tuple[int, int], like: Tensor) -> Tensor:
    """Column and row of every cell, (2, H * W)."""
    return _cell_corners(size, like.dtype, like.device)


@made_once(16)
def _cell_corners(size: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
    cells = torch.arange(size[0] * size[1], device=device)
    return cell_xy(cells, size[1]).to(dtype).t()
