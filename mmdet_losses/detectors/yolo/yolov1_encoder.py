"""Target encoder of YOLOv1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core import (
    Detections,
    Ignored,
    Size,
    TargetEncoder,
    best_detections,
    pad_ignored,
    pad_instances,
)
from mmdet_losses.detectors.yolo.cells import Grid, cell_corners
from mmdet_losses.detectors.yolo.contracts import YOLOV1Outputs, YOLOV1Targets
from mmdet_losses.detectors.yolo.darknet_encoder import darknet_boxes
from mmdet_losses.detectors.yolo.grids import hidden_anchors
from mmdet_losses.detectors.yolo.maps import best_pairs, first_in_cell, put_cells
from mmdet_losses.ops import boxes_around, constant, promote, scale_boxes
from mmdet_losses.registry import TASK_UTILS

CERTAIN = 30.0
"""Logit whose softmax is 1 in float32."""


@TASK_UTILS.register_module()
class YOLOV1TargetEncoder(TargetEncoder[YOLOV1Outputs, YOLOV1Targets]):
    r"""Assigns one object to a cell: class, centre inside the cell, size over the image.

    Convention:
        Boxes are clipped to the image. Of several objects in a cell the first annotation is used.
        With ``square_root`` the outputs are the square roots of width and height.

    Args:
        num_classes: C.
        num_boxes: number of boxes per cell, for :meth:`ideal_outputs`.
        square_root: see above.
        softmax: class scores are a softmax of the outputs, as
            :class:`~mmdet_losses.detectors.yolo.yolov1_loss.YOLOV1Loss` with ``softmax`` trains
            them.
        score_thr: :meth:`decode` drops scores that are not above this.
        topk: best (box, class) pairs per image that :meth:`decode` keeps. None keeps all, as
            darknet does; the results of a trained network are the same.
        ignore_iof_thr: a cell with a larger share of its area in an ignored region is no negative;
            negative values disable this.

    Encoded:
        :class:`~mmdet_losses.detectors.yolo.contracts.YOLOV1Targets`.

    Reference:
        Redmon et al., *You Only Look Once*, 2016, section 2.
    """

    outputs_type = YOLOV1Outputs

    def __init__(
        self,
        num_classes: int,
        num_boxes: int = 2,
        square_root: bool = True,
        score_thr: float = 0.005,
        topk: int | None = 30_000,
        softmax: bool = False,
        ignore_iof_thr: float = 0.5,
    ) -> None:
        self.num_classes, self.num_boxes, self.square_root = num_classes, num_boxes, square_root
        self.score_thr, self.topk, self.softmax = score_thr, topk, softmax
        self.ignore_iof_thr = ignore_iof_thr

    def encode(
        self,
        gt_instances: Sequence[InstanceData],
        feat_sizes: Sequence[Size],
        img_size: Size,
        ignored: Ignored = None,
    ) -> YOLOV1Targets:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`; inputs are not modified."""
        height, width = feat_sizes[0]
        padded = pad_instances(gt_instances)
        boxes, labels, mask = darknet_boxes(padded, img_size, self.num_classes, 'redmon')
        scaled = boxes[..., :2] * constant([width, height], boxes)
        cell = torch.minimum(scaled.floor(), constant([width - 1, height - 1], boxes))
        index = (cell[..., 1] * width + cell[..., 0]).long()[:, None]
        kept = first_in_cell(index, mask[:, None], height * width)

        def put(values: Tensor) -> Tensor:
            placed = put_cells(values[:, None], index, kept, height * width)
            return placed.squeeze(1).unflatten(-1, (height, width))

        num_pos = kept.sum(dtype=torch.float32)
        grid = Grid(constant([[1 / width, 1 / height]], boxes), (height, width))
        regions = pad_ignored(ignored, img_size)
        hidden = hidden_anchors(regions, [grid], self.ignore_iof_thr, img_size)
        return YOLOV1Targets(
            labels=put(labels),
            box=put(torch.cat((scaled - cell, boxes[..., 2:]), -1)),
            mask=put(mask),
            num_pos=num_pos,
            num_dropped=padded.count - num_pos,
            hidden=None if hidden is None else hidden[0].view(-1, height, width),
            weights=None if padded.weights is None else put(padded.weights),
        )

    def decode_all(self, outputs: YOLOV1Outputs, img_size: Size) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (B, P, 4) xyxy pixels, confidence (B, P), class scores (B, P, C).

        The order of P is box, row, column; the boxes of a cell share its class scores.
        """
        cls, conf, box = (promote(each).flatten(-2) for each in outputs)
        height, width = outputs.cls.shape[-2:]
        corner = cell_corners((height, width), box)
        center = (box[:, :, :2] + corner) / constant([[width], [height]], box)
        size = box[:, :, 2:].square() if self.square_root else box[:, :, 2:]
        pixels = constant([img_size[1], img_size[0]], box)
        boxes = boxes_around(center.transpose(2, 3) * pixels, size.transpose(2, 3) * pixels)
        cls = cls.softmax(1) if self.softmax else cls
        classes = cls.transpose(1, 2)[:, None].expand(-1, conf.shape[1], -1, -1)
        return boxes.flatten(1, 2), conf.flatten(1), classes.flatten(1, 2)

    def decode(self, outputs: YOLOV1Outputs, img_size: Size) -> list[InstanceData]:
        """The best pairs by confidence times class score; boxes are not clipped."""
        boxes, conf, classes = self.decode_all(outputs, img_size)
        return [
            best_pairs(box, score, self.score_thr, self.topk)
            for box, score in zip(boxes, conf[..., None] * classes, strict=True)
        ]

    def decode_tensors(
        self, outputs: YOLOV1Outputs, img_size: Size, limit: int = 1000
    ) -> Detections:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`."""
        boxes, obj, classes = self.decode_all(outputs, img_size)
        return best_detections(boxes, obj[..., None] * classes, limit, self.score_thr)

    def ideal_outputs(self, targets: YOLOV1Targets) -> YOLOV1Outputs:
        """The box of the cell's object in all its boxes, with confidence and class score 1."""
        classes = torch.arange(self.num_classes, device=targets.labels.device)[:, None, None]
        cls = (targets.labels[:, None] == classes) & targets.mask[:, None]
        size = targets.box[:, 2:].sqrt() if self.square_root else targets.box[:, 2:]
        box = torch.cat((targets.box[:, :2], size), 1)
        boxes = self.num_boxes
        return YOLOV1Outputs(
            cls=cls.to(box) * (CERTAIN if self.softmax else 1),
            conf=targets.mask[:, None].to(box).expand(-1, boxes, -1, -1),
            box=box[:, None].expand(-1, boxes, -1, -1, -1),
        )

    def positive_boxes(
        self, targets: YOLOV1Targets, feat_sizes: Sequence[Size], img_size: Size
    ) -> Tensor:
        """The cells of the first image that hold an object: (n, 4) xyxy pixels."""
        height, width = targets.mask.shape[-2:]
        y, x = targets.mask[0].nonzero(as_tuple=True)
        cells = torch.stack((x, y, x + 1, y + 1), -1).float()
        return scale_boxes(cells, img_size[1] / width, img_size[0] / height)
