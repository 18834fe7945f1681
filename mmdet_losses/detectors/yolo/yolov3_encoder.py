"""Target encoder of YOLOv3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet_losses.detectors.yolo.contracts import YOLOV3Outputs
from mmdet_losses.detectors.yolo.darknet_encoder import Convention, DarknetTargetEncoder
from mmdet_losses.ops import check_choice
from mmdet_losses.registry import TASK_UTILS

COCO_ANCHORS = (
    ((116, 90), (156, 198), (373, 326)),
    ((30, 61), (62, 45), (59, 119)),
    ((10, 13), (16, 30), (33, 23)),
)
IOU_THRESHOLD = {'darknet': 1.0, 'summary': 0.7}


@TASK_UTILS.register_module()
class YOLOV3TargetEncoder(DarknetTargetEncoder[YOLOV3Outputs]):
    """Target encoder of YOLOv3: :class:`DarknetTargetEncoder` with the nine anchors for COCO.

    The anchors of the coarsest map come first.

    Args:
        convention: sets the default of ``iou_threshold``. With 'darknet' an object is assigned to
            its best anchor only: the anchor with the highest IoU of shapes. With 'summary' it is
            also assigned to every other anchor whose IoU of shapes is above 0.7 (formulas of
            :mod:`~mmdet_losses.detectors.yolo.summary`).

    The other arguments are those of :class:`DarknetTargetEncoder`.

    Reference:
        Redmon and Farhadi, *YOLOv3*, 2018, section 2.
    """

    outputs_type = YOLOV3Outputs

    def __init__(
        self,
        num_classes: int,
        anchors: Sequence[Sequence[tuple[float, float]]] = COCO_ANCHORS,
        iou_threshold: float | None = None,
        convention: Convention = 'darknet',
        **kwargs: Any,
    ) -> None:
        check_choice('convention', convention, IOU_THRESHOLD)
        if iou_threshold is None:
            iou_threshold = IOU_THRESHOLD[convention]
        super().__init__(num_classes, anchors, iou_threshold=iou_threshold, **kwargs)
