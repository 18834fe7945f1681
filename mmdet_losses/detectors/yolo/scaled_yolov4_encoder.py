"""Target encoder of Scaled-YOLOv4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core import (
    Ignored,
    Size,
    check_levels,
    pad_ignored,
    pad_instances,
    usable_boxes,
)
from mmdet_losses.detectors.yolo.cells import Grid
from mmdet_losses.detectors.yolo.contracts import (
    ScaledLevel,
    ScaledYOLOV4Outputs,
    ScaledYOLOV4Targets,
)
from mmdet_losses.detectors.yolo.grid_encoder import GridTargetEncoder
from mmdet_losses.detectors.yolo.grids import Slots, hidden_anchors
from mmdet_losses.ops import box_center, box_size, cell_xy, constant, made_once
from mmdet_losses.registry import TASK_UTILS

CSP_ANCHORS = (
    ((12, 16), (19, 36), (40, 28)),
    ((36, 75), (76, 55), (72, 146)),
    ((142, 110), (192, 243), (459, 401)),
)


class _Table(NamedTuple):
    """L maps with S anchors in all."""

    grids: list[Grid]
    cells: Tensor
    """(L, 2) width and height of the maps."""
    last: Tensor
    """(L, 2) column and row of the last cells."""
    anchors: Tensor
    """(S, 2) in cells."""
    level: Tensor
    """(S,) int64 map of each anchor."""


@TASK_UTILS.register_module()
class ScaledYOLOV4TargetEncoder(GridTargetEncoder[ScaledYOLOV4Outputs, ScaledYOLOV4Targets]):
    r"""Assigns an object to every anchor of similar shape, in up to three cells.

    The centre is :math:`2\sigma(t) - 0.5` from the corner of the cell, the size is
    :math:`(2\sigma(t))^2` anchors.

    Convention:
        An anchor is positive if no side of the box is ``anchor_threshold`` times the anchor's or
        more, or the inverse fraction or less. There is no best anchor, so an object may have
        none. The cells are that of the centre and its neighbours nearer than half a cell, one
        horizontal and one vertical, unless the centre lies within one cell of that border. A
        centre on an integer coordinate counts as near to both sides, and its right or lower
        neighbour is the cell itself. In the official code a centre on the right or lower border
        indexes beyond the map; here it stays in the last cell.

    Args:
        num_classes: C.
        anchors: for each map the (width, height) of its anchors in pixels.
        strides: cell size in pixels, a number or (x, y) per map, only used for the anchors.
        anchor_threshold: see above.
        score_thr: :meth:`decode` drops scores that are not above this.
        topk: best (box, class) pairs per image that :meth:`decode` keeps. None keeps all, as the
            official code does; the results of a trained network are the same.
        ignore_iof_thr: an anchor with a larger share of its area in an ignored region is no
            negative; negative values disable this. As in MMDetection.

    Encoded:
        :class:`~mmdet_losses.detectors.yolo.contracts.ScaledYOLOV4Targets`.

    Raises:
        ValueError: invalid anchors, or a wrong number of strides.

    Reference:
        Wang et al., *Scaled-YOLOv4*, 2021, and the authors' PyTorch code.
    """

    outputs_type = ScaledYOLOV4Outputs

    def __init__(
        self,
        num_classes: int,
        anchors: Sequence[Sequence[tuple[float, float]]] = CSP_ANCHORS,
        strides: Sequence[float | tuple[float, float]] | None = None,
        anchor_threshold: float = 4.0,
        score_thr: float = 0.001,
        topk: int | None = 30_000,
        ignore_iof_thr: float = 0.5,
    ) -> None:
        super().__init__(num_classes, anchors, score_thr, topk)
        if strides is not None and len(strides) != len(anchors):
            raise ValueError(
                f'strides has {len(strides)} entries but anchors {len(anchors)} levels; give one '
                'per level.'
            )
        self.strides, self.anchor_threshold = strides, anchor_threshold
        self.ignore_iof_thr = ignore_iof_thr

    def grid(self, level: int, size: Size, img_size: Size, like: Tensor) -> Grid:
        """Cells and anchors of one map."""
        whole: tuple[float, float] = img_size[::-1]
        if self.strides is not None:
            stride = self.strides[level]
            x, y = stride if isinstance(stride, tuple | list) else (stride, stride)
            whole = (x * size[1], y * size[0])
        anchors = constant(self.anchors[level], like) / constant(whole, like)
        return Grid(anchors, size, scale_xy=2.0, squared=True)

    def encode(
        self,
        gt_instances: Sequence[InstanceData],
        feat_sizes: Sequence[Size],
        img_size: Size,
        ignored: Ignored = None,
    ) -> ScaledYOLOV4Targets:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`; inputs are not modified."""
        check_levels(len(feat_sizes), len(self.anchors), 'anchors')
        padded = pad_instances(gt_instances)
        boxes, labels, mask = usable_boxes(padded, img_size, self.num_classes)
        whole = constant(img_size[::-1], boxes)
        center, size = box_center(boxes) / whole, box_size(boxes) / whole
        mask = mask & (center == center.clamp(0, 1)).all(-1)
        table = self._table(tuple(feat_sizes), img_size, boxes.dtype, boxes.device)
        levels, positive = self._encode_levels(center, size, labels, mask, padded.weights, table)
        return ScaledYOLOV4Targets(
            levels=levels,
            num_pos=positive.sum(dtype=torch.float32),
            num_dropped=padded.count - mask.sum(dtype=torch.float32),
            hidden=hidden_anchors(
                pad_ignored(ignored, img_size),
                [level.grid for level in levels],
                self.ignore_iof_thr,
                img_size,
            ),
        )

    @made_once(16)
    def _table(
        self, feat_sizes: Sequence[Size], img_size: Size, dtype: torch.dtype, device: torch.device
    ) -> _Table:
        like = torch.empty(0, dtype=dtype, device=device)
        grids = self.grids(feat_sizes, img_size, like)
        cells = [constant(size[::-1], like) for size in feat_sizes]
        pairs = zip(grids, cells, strict=True)
        level = [i for i, grid in enumerate(grids) for _ in grid.anchors]
        return _Table(
            grids=grids,
            cells=torch.stack(cells),
            last=torch.stack(cells) - 1,
            anchors=torch.cat([grid.anchors * side for grid, side in pairs]),
            level=constant(level, like.long()),
        )

    def _encode_levels(
        self,
        center: Tensor,
        size: Tensor,
        labels: Tensor,
        mask: Tensor,
        weights: Tensor | None,
        table: _Table,
    ) -> tuple[tuple[ScaledLevel, ...], Tensor]:
        """Targets of all L maps, computed together; and the positive slots of all S anchors."""
        cells = table.cells[:, None]  # (L, 1, 2)
        center, size = center[:, None] * cells, size[:, None] * cells  # (B, L, M, 2)
        ratio = size[:, table.level] / table.anchors[:, None]  # (B, S, M, 2)
        fits = torch.maximum(ratio, 1 / ratio).amax(-1) < self.anchor_threshold
        fits = fits & mask[:, None]

        sides = torch.stack((center, cells - center))  # distances from left, top; right, bottom
        near = ((sides % 1 < 0.5) & (sides > 1)).unbind(-1)
        own = mask[:, None].expand(-1, len(cells), -1)
        near = torch.stack((own, near[0][0], near[1][0], near[0][1], near[1][1]), 2)
        steps = constant([[[0, 0]], [[0.5, 0]], [[0, 0.5]], [[-0.5, 0]], [[0, -0.5]]], center)
        cell = (center[:, :, None] - steps).trunc()  # (B, L, 5, M, 2)
        cell = cell.clamp(constant(0, cell), table.last[:, None, None])
        box = torch.cat((center[:, :, None] - cell, size[:, :, None].expand_as(cell)), -1)
        index = (cell[..., 1] * cells[..., :1] + cell[..., 0]).long()
        positive = (near[:, table.level] & fits[:, :, None]).flatten(2)  # (B, S, 5 * M)
        labels = labels[:, None].expand(-1, 5, -1).flatten(1)

        if weights is not None:
            weights = weights[:, None].expand(-1, 5, -1).flatten(1)

        def wide(values: Tensor, count: int) -> Tensor:
            return values[:, None].expand(-1, count, *[-1] * (values.dim() - 1))

        levels, start = [], 0
        for i, grid in enumerate(table.grids):
            count = len(grid.anchors)
            slots = (index[:, i].flatten(1), box[:, i].flatten(1, 2), labels)
            levels.append(
                ScaledLevel(
                    *(wide(each, count) for each in slots),
                    mask=positive[:, start : start + count],
                    grid=grid,
                    weights=None if weights is None else wide(weights, count),
                )
            )
            start += count
        return tuple(levels), positive

    def slots(self, targets: ScaledYOLOV4Targets) -> list[Slots]:
        """The positive slots of each map."""
        result = []
        for index, box, labels, mask, grid, _ in targets.levels:
            width_height = constant(grid.size[::-1], box)
            center = box[..., :2] + cell_xy(index, grid.size[1])
            boxes = torch.cat((center, box[..., 2:]), -1) / width_height.repeat(2)
            result.append(Slots(grid, index, mask, boxes, labels))
        return result
