"""Target encoder of YOLOv4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet_losses.detectors.yolo.contracts import YOLOV4Outputs
from mmdet_losses.detectors.yolo.darknet_encoder import Code, Convention, DarknetTargetEncoder
from mmdet_losses.ops import check_choice
from mmdet_losses.registry import TASK_UTILS

COCO_ANCHORS = (
    ((12, 16), (19, 36), (40, 28)),
    ((36, 75), (76, 55), (72, 146)),
    ((142, 110), (192, 243), (459, 401)),
)
IOU_THRESHOLD = {'darknet': 0.213, 'summary': 0.7}
SCALE_XY: dict[str, float | Sequence[float]] = {'darknet': (1.2, 1.1, 1.05), 'summary': 1.1}


@TASK_UTILS.register_module()
class YOLOV4TargetEncoder(DarknetTargetEncoder[YOLOV4Outputs]):
    """:class:`DarknetTargetEncoder` with several anchors per object, maps fine to coarse.

    Defaults of yolov4.cfg: every anchor whose shape IoU is above 0.213, grid sensitivity 1.2, 1.1
    and 1.05. With ``convention='summary'`` they are 0.7 and 1.1. yolov4-csp.cfg is
    ``squared=True, scale_xy=2.0, iou_threshold=0.2``.

    Reference:
        Bochkovskiy et al., *YOLOv4*, 2020; darknet's yolov4.cfg.
    """

    outputs_type = YOLOV4Outputs

    def __init__(
        self,
        num_classes: int,
        anchors: Sequence[Sequence[tuple[float, float]]] = COCO_ANCHORS,
        scale_xy: float | Sequence[float] | None = None,
        iou_threshold: float | None = None,
        convention: Convention = 'darknet',
        code: Code = 'alexeyab',
        **kwargs: Any,
    ) -> None:
        check_choice('convention', convention, IOU_THRESHOLD)
        scale_xy = SCALE_XY[convention] if scale_xy is None else scale_xy
        if iou_threshold is None:
            iou_threshold = IOU_THRESHOLD[convention]
        super().__init__(num_classes, anchors, scale_xy, iou_threshold, code=code, **kwargs)
