"""The maps of a detector as one list of predictions.

A GPU then launches each operator once for all maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from mmdet_losses.detectors.yolo.cells import Grid, JoinedGrid
from mmdet_losses.detectors.yolo.grids import Slots
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


def read_slots(values: Tensor, index: Tensor, classes: int) -> tuple[Tensor, SlotValues]:
    """Objectness (B, 1, P) and values of slots (B, 1, K), from joined maps (B, 5 + C + D, P)."""
    obj, rows = _Read.apply(values, index.squeeze(1))
    rows = rows.transpose(1, 2).unsqueeze(1)
    xy, wh, _, cls, rest = rows.split([2, 2, 1, classes, values.shape[1] - 5 - classes], 3)
    return obj.unsqueeze(1), SlotValues(xy, wh, cls, rest)


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
