"""The maps of a detector as one list of predictions.

A GPU then launches each operator once for all maps. A CPU joins only the values that are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmdet_losses.detectors.yolo.cells import Grid, JoinedGrid
from mmdet_losses.detectors.yolo.grids import Slots
from mmdet_losses.detectors.yolo.maps import RawLevel, parts
from mmdet_losses.ops import at_least_one, constant, promote


class SlotValues(NamedTuple):
    """Raw values of slots."""

    xy: Tensor
    """(B, 1, K, 2)."""
    wh: Tensor
    """(B, 1, K, 2)."""
    cls: Tensor
    """(B, 1, K, C)."""
    rest: Tensor
    """(B, 1, K, D) further values of the network."""


def join_maps(maps: Sequence[Tensor]) -> Tensor:
    """Maps (B, A, D, N) as (B, D, P), in at least float32."""
    return promote(torch.cat([row for each in maps for row in each.unbind(1)], 2))


class JoinedMaps(NamedTuple):
    """Maps of one list of P predictions; each map has A anchors and N cells."""

    maps: tuple[Tensor, ...]
    """(B, A, 5 + C, N) each."""
    further: tuple[Tensor, ...] = ()
    """(B, A, D, N) further values of each map, or none."""
    joined: Tensor | None = None
    """(B, 5 + C + D, P), at least float32; None on a CPU, where joining all takes longer."""

    @classmethod
    def of(cls, maps: Sequence[Tensor], further: Sequence[Tensor] = ()) -> JoinedMaps:
        """The maps, joined unless they are on a CPU."""
        joined = None
        if maps[0].device.type != 'cpu' or torch.compiler.is_compiling():
            joined = join_maps(maps)
            joined = torch.cat((joined, join_maps(further)), 1) if further else joined
        return cls(tuple(maps), tuple(further), joined)

    @property
    def classes(self) -> int:
        """C."""
        return self.maps[0].shape[2] - 5

    def raw(self, classes: bool) -> RawLevel:
        """The predictions without a gradient.

        Args:
            classes: the class logits are read; on a CPU only the highest one of each prediction.
        """
        if self.joined is not None:
            return parts(self.joined.detach()[:, None, : 5 + self.classes])
        maps = [each.detach() for each in self.maps]
        values = join_maps([each[:, :, :5] for each in maps])
        if classes:
            highest = join_maps([each[:, :, 5:].amax(2, keepdim=True) for each in maps])
            values = torch.cat((values, highest), 1)
        return parts(values[:, None])

    def read(self, index: Tensor) -> tuple[Tensor, SlotValues]:
        """Objectness (B, 1, P), and the values of slots (B, 1, K)."""
        index = index.squeeze(1)
        if self.joined is not None:
            obj, rows = _Read.apply(self.joined, index)
            rows = rows.transpose(1, 2)
        else:
            obj, rows = _ReadMaps.apply(index, *self.maps)
            if self.further:
                rows = torch.cat((rows, _rows(self.further, index)), 2)
        widths = [2, 2, 1, self.classes, rows.shape[2] - 5 - self.classes]
        xy, wh, _, cls, rest = rows.unsqueeze(1).split(widths, 3)
        return obj.unsqueeze(1), SlotValues(xy, wh, cls, rest)


Place = tuple[Tensor, Tensor, Tensor, Tensor]
"""Image, slot, anchor and cell of some slots, (n,) each."""


def _places(maps: Sequence[Tensor], index: Tensor) -> list[Place]:
    """The slots (B, K) in each map."""
    places, start = [], 0
    for each in maps:
        anchors, cells = each.shape[1], each.shape[3]
        end = start + anchors * cells
        image, slot = ((index >= start) & (index < end)).nonzero(as_tuple=True)
        found = index[image, slot] - start
        places.append((image, slot, found.div(cells, rounding_mode='floor'), found % cells))
        start = end
    return places


def _rows(maps: Sequence[Tensor], index: Tensor) -> Tensor:
    """Values (B, K, D) of slots (B, K), at least float32."""
    rows = promote(maps[0].new_zeros(0)).new_zeros((*index.shape, maps[0].shape[2]))
    for each, (image, slot, anchor, cell) in zip(maps, _places(maps, index), strict=True):
        rows[image, slot] = promote(each[image, anchor, :, cell])
    return rows


class _ReadMaps(torch.autograd.Function):
    """As :class:`_Read`, from maps that are not joined."""

    @staticmethod
    def forward(ctx: Any, index: Tensor, *maps: Tensor) -> tuple[Tensor, Tensor]:
        """Objectness (B, P), and all values (B, K, D) of the slots ``index`` (B, K)."""
        ctx.save_for_backward(index, *maps)
        return join_maps([each[:, :, 4:5] for each in maps]).squeeze(1), _rows(maps, index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_obj: Tensor, by_rows: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the maps."""
        index, *maps = ctx.saved_tensors
        grads, start = [], 0
        for each, (image, slot, anchor, cell) in zip(maps, _places(maps, index), strict=True):
            grad = by_rows.new_zeros(each.shape)
            by_cell = grad.transpose(2, 3)
            by_cell.index_put_((image, anchor, cell), by_rows[image, slot], accumulate=True)
            anchors, cells = each.shape[1], each.shape[3]
            grad[:, :, 4] += by_obj[:, start : start + anchors * cells].unflatten(1, (anchors, -1))
            grads.append(grad.to(each.dtype))
            start += anchors * cells
        return None, *grads


class _Read(torch.autograd.Function):
    """Objectness, and all values of some predictions; the gradient is written once."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        wide = index[:, None].expand(-1, values.shape[1], -1)
        ctx.save_for_backward(wide)
        ctx.shape = values.shape
        return values[:, 4].clone(), values.gather(2, wide)

    @staticmethod
    def backward(ctx: Any, by_obj: Tensor, by_rows: Tensor) -> tuple[Tensor, None]:
        (wide,) = ctx.saved_tensors
        grad = by_rows.new_zeros(ctx.shape).scatter_add_(2, wide, by_rows)
        grad[:, 4] += by_obj
        return grad, None


def join_slots(slots: Sequence[Slots]) -> Slots:
    """Slots of several maps as slots of joined predictions; without most empty ones on a CPU."""
    grids = [cast('Grid', each.grid) for each in slots]
    lengths = [grid.cells for grid in grids for _ in grid.anchors]
    _, *fields = zip(*slots, strict=True)
    index, mask, boxes, labels, weights = (
        None if each[0] is None else torch.cat(each, 1) for each in fields
    )
    index = index + constant([0, *accumulate(lengths[:-1])], index)[:, None]
    fields = (
        None if each is None else each.flatten(1, 2).unsqueeze(1)
        for each in (index, mask, boxes, labels, weights)
    )
    return _packed(Slots(JoinedGrid.of(grids), *fields))


def _packed(slots: Slots) -> Slots:
    """Slots without most of the empty ones, on a CPU.

    The number that stays depends on values, which a GPU cannot read without synchronising.
    """
    if slots.mask.device.type != 'cpu' or torch.compiler.is_compiling():
        return slots
    count = max(1, int(slots.mask.sum(-1).max()))
    order = slots.mask.byte().argsort(dim=-1, descending=True, stable=True)[..., :count]
    boxes = slots.boxes.take_along_dim(order[..., None], 2)
    index, mask, labels = (
        each.gather(2, order) for each in (slots.index, slots.mask, slots.labels)
    )
    weights = None if slots.weights is None else slots.weights.gather(2, order)
    return Slots(slots.grid, index, mask, boxes, labels, weights)


def join_hidden(hidden: Sequence[Tensor] | None) -> Tensor | None:
    """Anchors in ignored regions, (B, A, N) per map, as (B, 1, P)."""
    if hidden is None:
        return None
    return torch.cat([each.flatten(1) for each in hidden], 1).unsqueeze(1)


def slots_per_map(slots: Slots) -> Tensor:
    """Number of objects in the map of each joined slot, at least 1: (B, 1, K)."""
    grid = slots.grid
    assert isinstance(grid, JoinedGrid)
    number = grid.by_map(range(len(grid.lengths)), torch.int64)[slots.index]
    counts = torch.zeros(len(grid.lengths), device=number.device)
    counts = counts.scatter_add(0, number.flatten(), slots.mask.flatten().to(counts))
    return at_least_one(counts)[number]
