"""Target encoder of YOLOv2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mmdet_losses.detectors.yolo.contracts import YOLOV2Outputs
from mmdet_losses.detectors.yolo.darknet_encoder import Convention, DarknetTargetEncoder
from mmdet_losses.ops import check_choice
from mmdet_losses.registry import TASK_UTILS

VOC_ANCHORS = (
    ((42.31, 55.41), (102.18, 128.3), (161.79, 259.17), (303.08, 154.9), (359.56, 320.23)),
)
IOU_THRESHOLD = {'darknet': 1.0, 'summary': 0.3}


@TASK_UTILS.register_module()
class YOLOV2TargetEncoder(DarknetTargetEncoder[YOLOV2Outputs]):
    """:class:`DarknetTargetEncoder` with one map, the five anchors of VOC and softmax classes.

    With ``convention='summary'`` an object gets every anchor whose shape IoU is above 0.3.

    Reference:
        Redmon and Farhadi, *YOLO9000*, 2017, section 2.
    """

    outputs_type = YOLOV2Outputs

    def __init__(
        self,
        num_classes: int,
        anchors: Sequence[Sequence[tuple[float, float]]] = VOC_ANCHORS,
        iou_threshold: float | None = None,
        convention: Convention = 'darknet',
        **kwargs: Any,
    ) -> None:
        check_choice('convention', convention, IOU_THRESHOLD)
        if iou_threshold is None:
            iou_threshold = IOU_THRESHOLD[convention]
        super().__init__(num_classes, anchors, iou_threshold=iou_threshold, **kwargs)

    def class_scores(self, logits: Tensor) -> Tensor:
        """Softmax over the classes."""
        return logits.softmax(2)
