"""Target encoder of Scaled-YOLOv4."""

from __future__ import annotations

from collections.abc import Sequence

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
from mmdet_losses.detectors.yolo.contracts import (
    Grid,
    ScaledLevel,
    ScaledYOLOV4Outputs,
    ScaledYOLOV4Targets,
)
from mmdet_losses.detectors.yolo.grid_encoder import GridTargetEncoder
from mmdet_losses.detectors.yolo.grids import Slots, hidden_anchors
from mmdet_losses.ops import box_center, box_size, cell_xy, constant
from mmdet_losses.registry import TASK_UTILS

CSP_ANCHORS = (
    ((12, 16), (19, 36), (40, 28)),
    ((36, 75), (76, 55), (72, 146)),
    ((142, 110), (192, 243), (459, 401)),
)


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
        mask = mask & ((center >= 0) & (center <= 1)).all(-1)
        levels = tuple(
            self._encode_level(
                *(center, size, labels, mask, padded.weights),
                self.grid(i, feat, img_size, boxes),
            )
            for i, feat in enumerate(feat_sizes)
        )
        return ScaledYOLOV4Targets(
            levels=levels,
            num_pos=torch.stack([level.mask.sum() for level in levels]).sum().float(),
            num_dropped=(padded.real.sum() - mask.sum()).float(),
            hidden=hidden_anchors(
                pad_ignored(ignored, img_size),
                [level.grid for level in levels],
                self.ignore_iof_thr,
                img_size,
            ),
        )

    def _encode_level(
        self,
        center: Tensor,
        size: Tensor,
        labels: Tensor,
        mask: Tensor,
        weights: Tensor | None,
        grid: Grid,
    ) -> ScaledLevel:
        width_height = constant(grid.size[::-1], center)
        center, size = center * width_height, size * width_height
        ratio = size[:, None] / (grid.anchors * width_height)[:, None]  # (B, A, M, 2)
        fits = torch.maximum(ratio, 1 / ratio).amax(-1) < self.anchor_threshold
        fits = fits & mask[:, None]

        opposite = width_height - center
        low = (center % 1 < 0.5) & (center > 1)  # left, up
        high = (opposite % 1 < 0.5) & (opposite > 1)  # right, down
        near = torch.cat((mask[..., None], low, high), -1)
        steps = constant([[0, 0], [0.5, 0], [0, 0.5], [-0.5, 0], [0, -0.5]], center)
        cell = (center[..., None, :] - steps).trunc()  # (B, M, 5, 2)
        cell = torch.minimum(cell.clamp(min=0), width_height - 1)
        box = torch.cat((center[..., None, :] - cell, size[..., None, :].expand_as(cell)), -1)
        index = (cell[..., 1] * grid.size[1] + cell[..., 0]).long()

        count = len(grid.anchors)

        def slots(values: Tensor) -> Tensor:  # (B, M, 5, ...) to (B, A, 5 * M, ...)
            flat = values.transpose(1, 2).flatten(1, 2)
            return flat[:, None].expand(-1, count, *[-1] * (flat.dim() - 1))

        return ScaledLevel(
            index=slots(index),
            box=slots(box),
            labels=slots(labels[..., None].expand_as(index)),
            mask=slots(near) & fits.repeat(1, 1, 5),
            grid=grid,
            weights=None if weights is None else slots(weights[..., None].expand_as(index)),
        )

    def slots(self, targets: ScaledYOLOV4Targets) -> list[Slots]:
        """The positive slots of each map."""
        result = []
        for index, box, labels, mask, grid, _ in targets.levels:
            width_height = constant(grid.size[::-1], box)
            center = box[..., :2] + cell_xy(index, grid.size[1])
            boxes = torch.cat((center, box[..., 2:]), -1) / width_height.repeat(2)
            result.append(Slots(grid, index, mask, boxes, labels))
        return result
