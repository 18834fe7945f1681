"""Grids of anchors: raw values to boxes and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmdet_losses.core import IDEAL_LOGIT, IgnoredRegions, Size
from mmdet_losses.detectors.yolo.cells import Grid, JoinedGrid, Place
from mmdet_losses.detectors.yolo.contracts import GridLevel, GridTargets
from mmdet_losses.detectors.yolo.maps import (
    RawLevel,
    join_level,
    last_in_cell,
    put_cells,
    take_cells,
)
from mmdet_losses.ops import (
    Extents,
    GridAnchors,
    IoUMode,
    box_similarity,
    boxes_around,
    cell_xy,
    constant,
)

MAX_LOG_SIZE = 20.0
"""Sizes decode to at most exp(20) anchors, so that boxes are finite."""


class Slots(NamedTuple):
    """(object, anchor) pairs of one map, K per anchor, or of joined maps, A = 1 and K in all."""

    grid: Grid | JoinedGrid
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which is not used
    """(B, A, K) int64 cell, y * W + x, or joined prediction; one can occur several times."""
    mask: Tensor
    """(B, A, K) bool; the slot holds an object."""
    boxes: Tensor
    """(B, A, K, 4) cxcywh fractions of the image."""
    labels: Tensor
    """(B, A, K) int64."""
    weights: Tensor | None = None
    """(B, A, K) factors of the objects' costs; None without."""

    def place(self) -> Place:
        """Constants of the predictions of the slots."""
        return self.grid.at(self.index)

    def claimed(self) -> Tensor:
        """Anchors that stand for an object: (B, A, N) bool."""
        return put_cells(self.mask, self.index, self.mask, self.grid.cells)

    def last(self) -> Slots:
        """The same slots; of several objects with one anchor of a cell only the last stays."""
        return self._replace(mask=last_in_cell(self.index, self.mask, self.grid.cells))


def object_slots(level: GridLevel, targets: GridTargets) -> Slots:
    """The (object, anchor) pairs of one map of YOLOv2, v3 or v4."""
    anchors = level.positive.shape[1]
    return Slots(
        grid=level.grid,
        index=level.index[:, None].expand_as(level.positive),
        mask=level.positive,
        boxes=targets.boxes[:, None].expand(-1, anchors, -1, -1),
        labels=targets.labels[:, None].expand_as(level.positive),
        weights=None
        if targets.weights is None
        else targets.weights[:, None].expand_as(level.positive),
    )


def positive_factors(slots: Slots) -> Tensor:
    """Factors (B, A, N) of the objectness: the weight of the last object, 1 without one."""
    last = slots.last()
    assert slots.weights is not None
    return put_cells(slots.weights, last.index, last.mask, slots.grid.cells, 1)


def grid_sizes(wh: Tensor, anchors: Tensor, squared: bool) -> Tensor:
    """Widths and heights as fractions of the image from raw values."""
    if squared:
        return (wh.sigmoid() * 2).square() * anchors
    return wh.clamp(max=MAX_LOG_SIZE).exp() * anchors


def grid_roots(wh: Tensor, anchors: Tensor, squared: bool) -> Tensor:
    """Square roots of :func:`grid_sizes`, with finite gradients for sizes that underflow."""
    if squared:
        return wh.sigmoid() * 2 * anchors.sqrt()
    return (wh.clamp(max=MAX_LOG_SIZE) / 2).exp() * anchors.sqrt()


def grid_boxes(raw: RawLevel, grid: Grid | JoinedGrid) -> tuple[Tensor, Tensor]:
    """Centres and sizes of all anchors as fractions of the image, (B, A, 2, N) each."""
    place = grid.every()
    point = place.center(raw.xy)
    size = grid_sizes(raw.wh, place.anchors, grid.squared)
    return center_of(point, size, grid), size


def slot_boxes(xy: Tensor, wh: Tensor, slots: Slots) -> Tensor:
    """Boxes that the raw values of slots decode to: (B, A, K, 4) cxcywh fractions."""
    place = slots.place()
    point = place.center(xy)
    size = grid_sizes(wh, place.anchors, slots.grid.squared)
    return torch.cat((center_of(point, size, slots.grid), size), -1)


def center_of(point: Tensor, size: Tensor, grid: Grid | JoinedGrid) -> Tensor:
    """Centres of boxes from the points that x and y predict."""
    return point - grid.point * size if grid.point else point


def point_of(boxes: Tensor, grid: Grid | JoinedGrid) -> Tensor:
    """The points (..., 2) of boxes (..., 4) cxcywh that x and y predict."""
    return boxes[..., :2] + grid.point * boxes[..., 2:] if grid.point else boxes[..., :2]


def slot_similarity(xy: Tensor, wh: Tensor, slots: Slots, mode: IoUMode) -> Tensor:
    """IoU, or its kind, of the decoded boxes with the objects of the slots: (B, A, K)."""
    pred, goal = (
        boxes_around(each[..., :2], each[..., 2:])
        for each in (slot_boxes(xy, wh, slots), slots.boxes)
    )
    return box_similarity(pred, goal, mode)


def take_boxes(raw: RawLevel, slots: Slots) -> tuple[Tensor, Tensor]:
    """Raw xy and wh of the slots, (B, A, K, 2) each."""
    return take_cells(raw.xy, slots.index), take_cells(raw.wh, slots.index)


def slot_targets(slots: Slots) -> tuple[Tensor, Tensor]:
    """Points inside their cells and raw sizes that decode to the boxes of the slots.

    (B, A, K, 2) each; finite where a slot holds no object.
    """
    place = slots.place()
    xy = point_of(slots.boxes, slots.grid) * place.sides - place.corner
    ratio = slots.boxes[..., 2:] / place.anchors
    ratio = torch.where(ratio > 0, ratio, constant(1, ratio))
    return xy, torch.logit(ratio.sqrt() / 2, eps=1e-6) if slots.grid.squared else ratio.log()


def hidden_anchors(
    regions: IgnoredRegions | None, grids: Sequence[Grid], threshold: float, img_size: Size
) -> tuple[Tensor, ...] | None:
    """(B, A, N) bool per map: anchors, in the middle of their cells, that lie in ignored regions.

    None without regions, and with a negative ``threshold``.
    """
    if regions is None or threshold < 0:
        return None
    scale, hidden = (1 / img_size[1], 1 / img_size[0]), []
    for grid in grids:
        axes = []
        for cells, size in zip(grid.size[::-1], grid.anchors.t(), strict=True):
            point = (torch.arange(cells, device=size.device) + 0.5) / cells
            center = center_of(point.expand(len(size), -1), size[:, None], grid)
            axes.append(Extents.around(center, size[:, None]))
        covered = regions.covered(GridAnchors(*axes), threshold, scale)
        hidden.append(covered.unflatten(1, (len(grid.anchors), -1)))
    return tuple(hidden)


def decode_map(raw: RawLevel, grid: Grid, img_size: Size) -> Tensor:
    """Boxes of all anchors: (B, A * N, 4) xyxy pixels, in the order anchor, row, column."""
    pixels = constant([img_size[1], img_size[0]], raw.xy)
    center, size = (each.transpose(2, 3) * pixels for each in grid_boxes(raw, grid))
    return boxes_around(center, size).flatten(1, 2)


def ideal_map(slots: Slots, num_classes: int) -> Tensor:
    """A map (B, A * (5 + C), H, W) that decodes to the last object of every claimed anchor.

    A ``squared`` size of four anchors or more cannot be written; the map holds the nearest one.
    """
    last, grid = slots.last().mask, slots.grid
    assert isinstance(grid, Grid)
    xy, wh = slot_targets(slots)
    xy = torch.logit((xy + (grid.scale_xy - 1) / 2) / grid.scale_xy, eps=1e-6)
    own = slots.labels[..., None] == torch.arange(num_classes, device=xy.device)

    def put(values: Tensor, fill: float = 0) -> Tensor:
        return put_cells(values, slots.index, last, grid.cells, fill)

    obj = put(last * IDEAL_LOGIT, -IDEAL_LOGIT)
    cls = put((own * 2 - 1) * IDEAL_LOGIT, -IDEAL_LOGIT)
    return join_level(RawLevel(put(xy), put(wh), obj, cls), grid.size)


def positive_anchors(slots: Slots, img_size: Size) -> Tensor:
    """Anchors of the first image's slots, in the middle of their cells: (n, 4) xyxy pixels."""
    grid = slots.grid
    assert isinstance(grid, Grid)
    anchor, slot = slots.mask[0].nonzero(as_tuple=True)
    pixels = constant([img_size[1], img_size[0]], grid.anchors)
    width_height = constant([grid.size[1], grid.size[0]], grid.anchors)
    corner = cell_xy(slots.index[0][anchor, slot], grid.size[1])
    size = grid.anchors[anchor]
    center = center_of((corner + 0.5) / width_height, size, grid)
    return boxes_around(center * pixels, size * pixels)
