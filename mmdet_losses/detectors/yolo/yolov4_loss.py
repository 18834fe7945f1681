"""Criterion of YOLOv4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet_losses.detectors.yolo.contracts import YOLOV4Outputs
from mmdet_losses.detectors.yolo.darknet_encoder import Code
from mmdet_losses.detectors.yolo.darknet_loss import BoxMode, DarknetLoss
from mmdet_losses.registry import MODELS


@MODELS.register_module()
class YOLOV4Loss(DarknetLoss[YOLOV4Outputs]):
    """:class:`DarknetLoss` with the options of yolov4.cfg: CIoU, deltas clipped to 5.

    yolov4-csp.cfg: ``iou_normalizer=0.05, cls_normalizer=0.5, obj_normalizer=(4, 1, 0.4),
    objectness_smooth=(False, True, True), max_delta=(5, 5, 2)``.

    Reference:
        Bochkovskiy et al., *YOLOv4*, 2020; darknet's yolov4.cfg.
    """

    def __init__(
        self,
        box: BoxMode = 'ciou',
        code: Code = 'alexeyab',
        iou_normalizer: float | Sequence[float] = 0.07,
        max_delta: float | Sequence[float] | None = 5.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            box, code=code, iou_normalizer=iou_normalizer, max_delta=max_delta, **kwargs
        )
