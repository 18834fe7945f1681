"""Criterion of YOLOv3."""

from __future__ import annotations

from mmdet_losses.detectors.yolo.contracts import YOLOV3Outputs
from mmdet_losses.detectors.yolo.darknet_loss import DarknetLoss
from mmdet_losses.registry import MODELS


@MODELS.register_module()
class YOLOV3Loss(DarknetLoss[YOLOV3Outputs]):
    """:class:`DarknetLoss` with the options of yolov3.cfg: squared errors for boxes.

    Reference:
        Redmon and Farhadi, *YOLOv3*, 2018; darknet's yolov3.cfg.
    """
