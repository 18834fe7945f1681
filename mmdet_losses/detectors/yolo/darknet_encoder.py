"""Target encoders of YOLOv2, YOLOv3 and YOLOv4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core import PaddedInstances, Size, TargetEncoder, pad_instances
from mmdet_losses.detectors.yolo.contracts import (
    GridLevel,
    GridTargets,
    YOLOV2Outputs,
    YOLOV3Outputs,
    YOLOV4Outputs,
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
)
from mmdet_losses.ops import boxes_around, check_choice, constant, shape_iou
from mmdet_losses.registry import TASK_UTILS

Convention = Literal['darknet', 'notes']
IDEAL_LOGIT = 12.0
MAX_LOG_SIZE = 20.0
"""Sizes decode to at most exp(20) anchors, so that no box is infinite."""

VOC_V2_ANCHORS = (
    ((42.31, 55.41), (102.18, 128.3), (161.79, 259.17), (303.08, 154.9), (359.56, 320.23)),
)
COCO_V3_ANCHORS = (
    ((116, 90), (156, 198), (373, 326)),
    ((30, 61), (62, 45), (59, 119)),
    ((10, 13), (16, 30), (33, 23)),
)
COCO_V4_ANCHORS = (
    ((12, 16), (19, 36), (40, 28)),
    ((36, 75), (76, 55), (72, 146)),
    ((142, 110), (192, 243), (459, 401)),
)


def darknet_truth(
    padded: PaddedInstances, img_size: Size, num_classes: int, smallest: Size | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Ground truth as darknet's loader keeps it.

    Boxes are clipped to the image and their centres taken again; those that become narrower or
    lower than ``smallest`` pixels (h, w; default one), lie outside, or have a label outside
    0 ... C-1 are left out.

    Returns:
        boxes (B, M, 4) cxcywh fractions, zero where left out; labels (B, M); mask (B, M).
    """
    height, width = img_size
    scale = constant([width, height], padded.boxes)
    low, high = padded.boxes[..., :2], padded.boxes[..., 2:]
    center, size = (low + high) / 2 / scale, (high - low) / scale
    finite = padded.boxes.isfinite().all(-1) & (size > 0).all(-1)
    low = (center - size / 2).clamp(0, 1)
    high = (center + size / 2).clamp(0, 1)
    boxes = torch.cat(((low + high) / 2, high - low), -1)
    least = constant([1 / width, 1 / height], boxes)
    if smallest is not None:
        least = least * constant([smallest[1], smallest[0]], boxes)
    mask = padded.real & finite & (boxes[..., 2:] >= least).all(-1)
    mask = mask & (padded.labels >= 0) & (padded.labels < num_classes)
    return torch.where(mask[..., None], boxes, 0), padded.labels * mask, mask


class DarknetTargetEncoder(TargetEncoder[YOLOV3Outputs, GridTargets]):
    r"""An object claims the anchor of the most similar shape, in the cell of its centre.

    With the cell :math:`c`, the anchor :math:`p` and raw outputs :math:`t`,

    .. math::

        b_{xy} = c + s\,\sigma(t_{xy}) - (s - 1) / 2, \qquad b_{wh} = p\,e^{t_{wh}}

    or, ``squared``, :math:`b_{wh} = p\,(2\sigma(t_{wh}))^2`.

    Convention:
        'darknet': the best anchor of all maps by the IoU of shapes alone, whatever its value;
        with ``iou_threshold`` below 1 the other anchors above it as well (strict). Boxes are
        clipped to the image first, and those below one pixel are left out. 'notes': the anchors
        above ``iou_threshold`` and, so that no object is without one, the best.

    Args:
        num_classes: C.
        anchors: for each map the (width, height) of its anchors in pixels.
        scale_xy: s of each map, or one number.
        iou_threshold: see above.
        squared: the Scaled-YOLOv4 form of sizes.
        convention: see above.
        max_objects: the first so many annotations of an image are used; None uses all.
        score_thr: scores that decode to a box exceed it.
        topk: best (box, class) pairs that leave :meth:`decode`; None keeps all, as darknet does,
            which is the same for any trained network.

    Raises:
        ValueError: impossible anchors, tables of different lengths, an unknown convention.
    """

    outputs_type = YOLOV3Outputs

    def __init__(
        self,
        num_classes: int,
        anchors: Sequence[Sequence[tuple[float, float]]],
        scale_xy: float | Sequence[float] = 1.0,
        iou_threshold: float = 1.0,
        squared: bool = False,
        convention: Convention = 'darknet',
        max_objects: int | None = None,
        score_thr: float = 0.005,
        topk: int | None = 30_000,
    ) -> None:
        check_anchors(anchors)
        check_choice('convention', convention, ('darknet', 'notes'))
        scales = [scale_xy] * len(anchors) if isinstance(scale_xy, int | float) else list(scale_xy)
        if len(scales) != len(anchors):
            raise ValueError(
                f'scale_xy has {len(scales)} entries but anchors {len(anchors)} levels; give one '
                'a level.'
            )
        self.num_classes, self.anchors, self.scale_xy = num_classes, anchors, scales
        self.iou_threshold, self.squared, self.convention = iou_threshold, squared, convention
        self.max_objects, self.score_thr, self.topk = max_objects, score_thr, topk

    def feat_sizes(self, outputs: YOLOV3Outputs) -> list[Size]:
        """(H, W) of the maps, whose channels must fit anchors and classes."""
        check_channels(outputs.levels, self.anchors, self.num_classes)
        return super().feat_sizes(outputs)

    def encode(
        self, gt_instances: Sequence[InstanceData], feat_sizes: Sequence[Size], img_size: Size
    ) -> GridTargets:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`; inputs are not modified."""
        check_levels(len(feat_sizes), len(self.anchors), 'anchors')
        padded = pad_instances(gt_instances, self.max_objects)
        boxes, labels, mask = darknet_truth(padded, img_size, self.num_classes)
        whole = constant([img_size[1], img_size[0]], boxes)
        anchors = [constant(level, boxes) / whole for level in self.anchors]
        claims = self._claims(boxes, mask, torch.cat(anchors))
        levels = []
        for i, claim in enumerate(claims.split([len(level) for level in anchors], 1)):
            height, width = feat_sizes[i]
            x = (boxes[..., 0] * width).long().clamp(max=width - 1)
            y = (boxes[..., 1] * height).long().clamp(max=height - 1)
            levels.append(
                GridLevel(
                    positive=claim,
                    index=y * width + x,
                    anchors=anchors[i],
                    size=(height, width),
                    scale_xy=self.scale_xy[i],
                    squared=self.squared,
                )
            )
        return GridTargets(
            boxes=boxes,
            labels=labels,
            mask=mask,
            levels=tuple(levels),
            several=self.iou_threshold < 1,
            num_pos=claims.sum().float(),
            num_dropped=(padded.real.sum() + padded.left_out - mask.sum()).float(),
        )

    def _claims(self, boxes: Tensor, mask: Tensor, anchors: Tensor) -> Tensor:
        """(B, A of all maps, M) bool; equal anchors: the smallest is best, as in darknet."""
        order = anchors.prod(-1).argsort(stable=True)
        overlap = shape_iou(boxes[..., 2:], anchors)  # (B, M, A)
        best = order[overlap[..., order].argmax(-1)]
        claims = torch.arange(len(anchors), device=boxes.device) == best[..., None]
        if self.convention == 'notes' or self.iou_threshold < 1:
            claims = claims | (overlap > self.iou_threshold)
        return (claims & mask[..., None]).transpose(1, 2)

    def decode_all(self, outputs: YOLOV3Outputs, img_size: Size) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (B, P, 4) xyxy pixels, objectness (B, P), class scores (B, P, C).

        The order of P is level, anchor, row, column.
        """
        check_levels(len(outputs.levels), len(self.anchors), 'anchors')
        pixels = constant([img_size[1], img_size[0]], outputs.levels[0]).float()
        boxes, objects, classes = [], [], []
        for i, level in enumerate(outputs.levels):
            size = (level.shape[2], level.shape[3])
            raw = split_level(level, len(self.anchors[i]), self.num_classes)
            anchors = constant(self.anchors[i], raw.xy) / pixels
            center, extent = grid_boxes(raw, size, anchors, self.scale_xy[i], self.squared)
            box = boxes_around(center.transpose(2, 3) * pixels, extent.transpose(2, 3) * pixels)
            boxes.append(box.flatten(1, 2))
            objects.append(raw.obj.sigmoid().flatten(1))
            classes.append(self._class_scores(raw.cls).transpose(2, 3).flatten(1, 2))
        return torch.cat(boxes, 1), torch.cat(objects, 1), torch.cat(classes, 1)

    def _class_scores(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def decode(self, outputs: YOLOV3Outputs, img_size: Size) -> list[InstanceData]:
        """The best pairs by objectness times class score; boxes are not clipped."""
        boxes, objects, classes = self.decode_all(outputs, img_size)
        return best_pairs(boxes, objects[..., None] * classes, self.score_thr, self.topk)

    def ideal_outputs(self, targets: GridTargets) -> YOLOV3Outputs:
        """Sure of the last object of every claimed anchor, whose box its values decode to.

        A ``squared`` size of four anchors or more cannot be said; the nearest is.
        """
        levels = tuple(self._ideal(level, targets) for level in targets.levels)
        return self.outputs_type(levels)

    def _ideal(self, level: GridLevel, targets: GridTargets) -> Tensor:
        cells = level.size[0] * level.size[1]
        index = level.index[:, None].expand_as(level.positive)
        last = last_in_cell(index, level.positive, cells)
        xy, wh = cell_targets(level, targets.boxes)
        xy = torch.logit((xy + (level.scale_xy - 1) / 2) / level.scale_xy, eps=1e-6)
        code = torch.cat((xy[:, None].expand_as(wh), wh), -1)
        own = targets.labels[..., None] == torch.arange(self.num_classes, device=xy.device)
        sure = ((own * 2 - 1) * IDEAL_LOGIT)[:, None].expand(*index.shape, -1)

        def put(values: Tensor, fill: float = 0) -> Tensor:
            return put_cells(values, index, last, cells, fill)

        obj = put(last * IDEAL_LOGIT, -IDEAL_LOGIT)
        wh = put(code[..., 2:])
        return join_level(
            RawLevel(put(code[..., :2]), wh, obj, put(sure, -IDEAL_LOGIT)), level.size
        )

    def positive_boxes(
        self, targets: GridTargets, feat_sizes: Sequence[Size], img_size: Size
    ) -> Tensor:
        """The claimed anchors of the first image: (n, 4) xyxy pixels."""
        levels = []
        for level in targets.levels:
            index = level.index[:, None].expand_as(level.positive)
            levels.append(
                positive_anchors(index, level.positive, level.anchors, level.size, img_size)
            )
        return torch.cat(levels)


def grid_boxes(
    raw: RawLevel, size: Size, anchors: Tensor, scale_xy: float, squared: bool
) -> tuple[Tensor, Tensor]:
    """Centres and sizes as fractions of the image, (B, A, 2, N) each."""
    cells = constant([[size[1]], [size[0]]], raw.xy)
    shift = raw.xy.sigmoid() * scale_xy - (scale_xy - 1) / 2
    center = (shift + cell_corners(size, raw.xy)) / cells
    return center, grid_sizes(raw.wh.transpose(2, 3), anchors[:, None], squared).transpose(2, 3)


def grid_sizes(wh: Tensor, anchors: Tensor, squared: bool) -> Tensor:
    """Sizes from raw values (..., 2) and anchors that broadcast to them."""
    if squared:
        return (wh.sigmoid() * 2).square() * anchors
    return wh.clamp(max=MAX_LOG_SIZE).exp() * anchors


def cell_targets(level: GridLevel, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """What the raw values of an object's anchor stand for.

    Returns the centre inside its cell (B, M, 2), and (B, A, M, 2) raw sizes. Slots without an
    object hold finite values.
    """
    height, width = level.size
    cell = torch.stack((level.index % width, level.index // width), -1)
    xy = boxes[..., :2] * constant([width, height], boxes) - cell
    share = boxes[:, None, :, 2:] / level.anchors[:, None]
    share = torch.where(share > 0, share, 1)
    wh = torch.logit(share.sqrt() / 2, eps=1e-6) if level.squared else share.log()
    return xy, wh


@TASK_UTILS.register_module()
class YOLOV2TargetEncoder(DarknetTargetEncoder):
    """:class:`DarknetTargetEncoder` with one map, VOC's five anchors, softmax over classes.

    Redmon and Farhadi, *YOLO9000*, section 2. ``convention='notes'`` claims every anchor whose
    shape overlaps by more than 0.3.
    """

    outputs_type = YOLOV2Outputs

    def __init__(
        self,
        num_classes: int,
        anchors: Sequence[Sequence[tuple[float, float]]] = VOC_V2_ANCHORS,
        iou_threshold: float | None = None,
        convention: Convention = 'darknet',
        **kwargs: object,
    ) -> None:
        if iou_threshold is None:
            iou_threshold = 0.3 if convention == 'notes' else 1.0
        super().__init__(
            num_classes, anchors, iou_threshold=iou_threshold, convention=convention, **kwargs
        )

    def _class_scores(self, logits: Tensor) -> Tensor:
        return logits.softmax(2)


@TASK_UTILS.register_module()
class YOLOV3TargetEncoder(DarknetTargetEncoder):
    """:class:`DarknetTargetEncoder` with COCO's nine anchors, maps coarse to fine.

    Redmon and Farhadi, *YOLOv3*, section 2. ``convention='notes'`` claims every anchor whose
    shape overlaps by more than 0.7, and the best.
    """

    outputs_type = YOLOV3Outputs

    def __init__(
        self,
        num_classes: int,
        anchors: Sequence[Sequence[tuple[float, float]]] = COCO_V3_ANCHORS,
        iou_threshold: float | None = None,
        convention: Convention = 'darknet',
        **kwargs: object,
    ) -> None:
        if iou_threshold is None:
            iou_threshold = 0.7 if convention == 'notes' else 1.0
        super().__init__(
            num_classes, anchors, iou_threshold=iou_threshold, convention=convention, **kwargs
        )


@TASK_UTILS.register_module()
class YOLOV4TargetEncoder(DarknetTargetEncoder):
    """:class:`DarknetTargetEncoder` with several anchors an object, maps fine to coarse.

    Bochkovskiy et al., *YOLOv4*, and darknet's yolov4.cfg: anchors above a shape IoU of 0.213,
    grid sensitivity 1.2, 1.1 and 1.05. ``convention='notes'`` has 1.1 everywhere and 0.7.
    ``squared=True, scale_xy=2.0, iou_threshold=0.2`` is yolov4-csp.cfg.
    """

    outputs_type = YOLOV4Outputs

    def __init__(
        self,
        num_classes: int,
        anchors: Sequence[Sequence[tuple[float, float]]] = COCO_V4_ANCHORS,
        scale_xy: float | Sequence[float] | None = None,
        iou_threshold: float | None = None,
        convention: Convention = 'darknet',
        **kwargs: object,
    ) -> None:
        notes = convention == 'notes'
        if scale_xy is None:
            scale_xy = 1.1 if notes else (1.2, 1.1, 1.05)
        if iou_threshold is None:
            iou_threshold = 0.7 if notes else 0.213
        super().__init__(
            num_classes, anchors, scale_xy, iou_threshold, convention=convention, **kwargs
        )
