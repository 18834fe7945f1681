"""Target encoder of Scaled-YOLOv4."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core import Size, TargetEncoder, pad_instances
from mmdet_losses.detectors.yolo.contracts import (
    ScaledLevel,
    ScaledYOLOV4Outputs,
    ScaledYOLOV4Targets,
)
from mmdet_losses.detectors.yolo.maps import (
    RawLevel,
    best_pairs,
    cell_corners,
    check_anchors,
    check_channels,
    check_levels,
    join_level,
    last_in_cell,
    positive_anchors,
    put_cells,
    split_level,
    usable_boxes,
)
from mmdet_losses.ops import box_center, box_size, boxes_around, constant
from mmdet_losses.registry import TASK_UTILS

CSP_ANCHORS = (
    ((12, 16), (19, 36), (40, 28)),
    ((36, 75), (76, 55), (72, 146)),
    ((142, 110), (192, 243), (459, 401)),
)
IDEAL_LOGIT = 12.0


@TASK_UTILS.register_module()
class ScaledYOLOV4TargetEncoder(TargetEncoder[ScaledYOLOV4Outputs, ScaledYOLOV4Targets]):
    r"""Every anchor of a similar shape, in the cell of the centre and its two nearest neighbours.

    Centre :math:`2\sigma(t) - 0.5` from the corner of the cell, size
    :math:`(2\sigma(t))^2` anchors. Wang et al., *Scaled-YOLOv4*, and the authors' PyTorch code.

    Convention:
        An anchor counts where no side of the box is ``anchor_threshold`` times its own or less
        than that fraction (strict); there is no best anchor, so an object may have none. The
        neighbours are those nearer than half a cell, one horizontal and one vertical, unless the
        centre lies within one cell of that border; a centre on an integer coordinate counts as
        near to both sides, and its right or lower neighbour is the cell itself. The official
        code lets a centre on the right or lower border index past the map; here it stays in the
        last cell.

    Args:
        num_classes: C.
        anchors: for each map the (width, height) of its anchors in pixels.
        strides: pixels of a cell, for the anchors alone: a number or (x, y) a map.
        anchor_threshold: see above.
        score_thr: scores that decode to a box exceed it.
        topk: best (box, class) pairs that leave :meth:`decode`; None keeps all, as the official
            code does, which is the same for any trained network.

    Raises:
        ValueError: impossible anchors, or not as many strides as levels of anchors.
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
    ) -> None:
        check_anchors(anchors)
        if strides is not None and len(strides) != len(anchors):
            raise ValueError(
                f'strides has {len(strides)} entries but anchors {len(anchors)} levels; give one '
                'a level.'
            )
        self.num_classes, self.anchors, self.strides = num_classes, anchors, strides
        self.anchor_threshold = anchor_threshold
        self.score_thr, self.topk = score_thr, topk

    def _anchors(self, level: int, size: Size, img_size: Size, like: Tensor) -> Tensor:
        """(A, 2) in cells."""
        stride = (img_size[1] / size[1], img_size[0] / size[0])
        if self.strides is not None:
            given = self.strides[level]
            stride = given if isinstance(given, tuple | list) else (given, given)
        return constant(self.anchors[level], like) / constant(stride, like)

    def feat_sizes(self, outputs: ScaledYOLOV4Outputs) -> list[Size]:
        """(H, W) of the maps, whose channels must fit anchors and classes."""
        check_channels(outputs.levels, self.anchors, self.num_classes)
        return super().feat_sizes(outputs)

    def encode(
        self, gt_instances: Sequence[InstanceData], feat_sizes: Sequence[Size], img_size: Size
    ) -> ScaledYOLOV4Targets:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`; inputs are not modified."""
        check_levels(len(feat_sizes), len(self.anchors), 'anchors')
        padded = pad_instances(gt_instances)
        boxes, labels, mask = usable_boxes(padded, img_size, self.num_classes)
        whole = constant([img_size[1], img_size[0]], boxes)
        center, size = box_center(boxes) / whole, box_size(boxes) / whole
        mask = mask & ((center >= 0) & (center <= 1)).all(-1)
        levels = tuple(
            self._encode_level(
                center, size, labels, mask, feat, self._anchors(i, feat, img_size, boxes)
            )
            for i, feat in enumerate(feat_sizes)
        )
        return ScaledYOLOV4Targets(
            levels=levels,
            num_pos=sum(level.mask.sum() for level in levels).float(),
            num_dropped=(padded.real.sum() - mask.sum()).float(),
        )

    def _encode_level(
        self,
        center: Tensor,
        size: Tensor,
        labels: Tensor,
        mask: Tensor,
        feat_size: Size,
        anchors: Tensor,
    ) -> ScaledLevel:
        height, width = feat_size
        gain = constant([width, height], center)
        center, size = center * gain, size * gain
        ratio = size[:, None] / anchors[:, None]  # (B, A, M, 2)
        fits = torch.maximum(ratio, 1 / ratio).amax(-1) < self.anchor_threshold
        fits = fits & mask[:, None]

        opposite = gain - center
        low = (center % 1 < 0.5) & (center > 1)  # left, up
        high = (opposite % 1 < 0.5) & (opposite > 1)  # right, down
        near = torch.cat((mask[..., None], low, high), -1)
        steps = constant([[0, 0], [0.5, 0], [0, 0.5], [-0.5, 0], [0, -0.5]], center)
        cell = (center[..., None, :] - steps).trunc()  # (B, M, 5, 2)
        cell = torch.minimum(cell.clamp(min=0), gain - 1)
        box = torch.cat((center[..., None, :] - cell, size[..., None, :].expand_as(cell)), -1)
        index = (cell[..., 1] * width + cell[..., 0]).long()

        count = len(anchors)

        def slots(values: Tensor) -> Tensor:  # (B, M, 5, ...) to (B, A, 5 * M, ...)
            flat = values.transpose(1, 2).flatten(1, 2)
            return flat[:, None].expand(-1, count, *[-1] * (flat.dim() - 1))

        return ScaledLevel(
            index=slots(index),
            box=slots(box),
            labels=slots(labels[..., None].expand_as(index)),
            mask=slots(near) & fits.repeat(1, 1, 5),
            anchors=anchors,
            size=feat_size,
        )

    def decode_all(
        self, outputs: ScaledYOLOV4Outputs, img_size: Size
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (B, P, 4) xyxy pixels, objectness (B, P), class scores (B, P, C).

        The order of P is level, anchor, row, column.
        """
        check_levels(len(outputs.levels), len(self.anchors), 'anchors')
        boxes, objects, classes = [], [], []
        for i, level in enumerate(outputs.levels):
            size = (level.shape[2], level.shape[3])
            raw = split_level(level, len(self.anchors[i]), self.num_classes)
            anchors = self._anchors(i, size, img_size, raw.xy)
            center = raw.xy.sigmoid() * 2 - 0.5 + cell_corners(size, raw.xy)
            extent = (raw.wh.sigmoid() * 2).square() * anchors[:, :, None]
            pixels = constant([img_size[1] / size[1], img_size[0] / size[0]], raw.xy)
            box = boxes_around(center.transpose(2, 3) * pixels, extent.transpose(2, 3) * pixels)
            boxes.append(box.flatten(1, 2))
            objects.append(raw.obj.sigmoid().flatten(1))
            classes.append(raw.cls.sigmoid().transpose(2, 3).flatten(1, 2))
        return torch.cat(boxes, 1), torch.cat(objects, 1), torch.cat(classes, 1)

    def decode(self, outputs: ScaledYOLOV4Outputs, img_size: Size) -> list[InstanceData]:
        """The best pairs by objectness times class score; boxes are not clipped."""
        boxes, objects, classes = self.decode_all(outputs, img_size)
        return best_pairs(boxes, objects[..., None] * classes, self.score_thr, self.topk)

    def ideal_outputs(self, targets: ScaledYOLOV4Targets) -> ScaledYOLOV4Outputs:
        """Sure of the last object of every cell, whose box its values decode to."""
        return ScaledYOLOV4Outputs(tuple(self._ideal(level) for level in targets.levels))

    def _ideal(self, level: ScaledLevel) -> Tensor:
        cells = level.size[0] * level.size[1]
        last = last_in_cell(level.index, level.mask, cells)
        xy = torch.logit((level.box[..., :2] + 0.5) / 2)
        share = (level.box[..., 2:] / level.anchors[:, None]).sqrt() / 2
        wh = torch.logit(share)
        own = level.labels[..., None] == torch.arange(self.num_classes, device=xy.device)
        sure = (own * 2 - 1) * IDEAL_LOGIT

        def put(values: Tensor, fill: float = 0) -> Tensor:
            return put_cells(values, level.index, last, cells, fill)

        obj = put(last * IDEAL_LOGIT, -IDEAL_LOGIT)
        return join_level(RawLevel(put(xy), put(wh), obj, put(sure, -IDEAL_LOGIT)), level.size)

    def positive_boxes(
        self, targets: ScaledYOLOV4Targets, feat_sizes: Sequence[Size], img_size: Size
    ) -> Tensor:
        """The positive anchors of the first image: (n, 4) xyxy pixels."""
        levels = []
        for level in targets.levels:
            anchors = level.anchors / constant([level.size[1], level.size[0]], level.anchors)
            levels.append(positive_anchors(level.index, level.mask, anchors, level.size, img_size))
        return torch.cat(levels)
