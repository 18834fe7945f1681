"""Detectors with a grid of cells: YOLOv1, v2, v3, v4 and Scaled-YOLOv4."""

from mmdet_losses.detectors.yolo.contracts import (
    GaussianYOLOOutputs,
    GridTargets,
    ScaledYOLOV4Outputs,
    ScaledYOLOV4Targets,
    YOLOV1Outputs,
    YOLOV1Targets,
    YOLOV2Outputs,
    YOLOV3Outputs,
    YOLOV4Outputs,
)
from mmdet_losses.detectors.yolo.gaussian_yolo_encoder import GaussianYOLOTargetEncoder
from mmdet_losses.detectors.yolo.gaussian_yolo_loss import GaussianYOLOLoss
from mmdet_losses.detectors.yolo.predictors import (
    DarknetPredictor,
    GaussianYOLOPredictor,
    ScaledYOLOV4Predictor,
    YOLOV1Predictor,
    YOLOV2Predictor,
    YOLOV3Predictor,
    YOLOV4Predictor,
)
from mmdet_losses.detectors.yolo.scaled_yolov4_encoder import ScaledYOLOV4TargetEncoder
from mmdet_losses.detectors.yolo.scaled_yolov4_loss import ScaledYOLOV4Loss
from mmdet_losses.detectors.yolo.yolov1_encoder import YOLOV1TargetEncoder
from mmdet_losses.detectors.yolo.yolov1_loss import YOLOV1Loss
from mmdet_losses.detectors.yolo.yolov2_encoder import YOLOV2TargetEncoder
from mmdet_losses.detectors.yolo.yolov2_loss import YOLOV2Loss
from mmdet_losses.detectors.yolo.yolov3_encoder import YOLOV3TargetEncoder
from mmdet_losses.detectors.yolo.yolov3_loss import YOLOV3Loss
from mmdet_losses.detectors.yolo.yolov4_encoder import YOLOV4TargetEncoder
from mmdet_losses.detectors.yolo.yolov4_loss import YOLOV4Loss

__all__ = [
    'DarknetPredictor',
    'GaussianYOLOLoss',
    'GaussianYOLOOutputs',
    'GaussianYOLOPredictor',
    'GaussianYOLOTargetEncoder',
    'GridTargets',
    'ScaledYOLOV4Loss',
    'ScaledYOLOV4Outputs',
    'ScaledYOLOV4Predictor',
    'ScaledYOLOV4TargetEncoder',
    'ScaledYOLOV4Targets',
    'YOLOV1Loss',
    'YOLOV1Outputs',
    'YOLOV1Predictor',
    'YOLOV1TargetEncoder',
    'YOLOV1Targets',
    'YOLOV2Loss',
    'YOLOV2Outputs',
    'YOLOV2Predictor',
    'YOLOV2TargetEncoder',
    'YOLOV3Loss',
    'YOLOV3Outputs',
    'YOLOV3Predictor',
    'YOLOV3TargetEncoder',
    'YOLOV4Loss',
    'YOLOV4Outputs',
    'YOLOV4Predictor',
    'YOLOV4TargetEncoder',
]
