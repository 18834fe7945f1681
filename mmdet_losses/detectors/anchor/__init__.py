"""Detectors with anchors: SSD and RetinaNet."""

from mmdet_losses.detectors.anchor.contracts import (
    RetinaNetOutputs,
    RetinaNetTargets,
    SSDOutputs,
    SSDTargets,
)
from mmdet_losses.detectors.anchor.predictors import RetinaNetPredictor, SSDPredictor
from mmdet_losses.detectors.anchor.retinanet_encoder import RetinaNetTargetEncoder
from mmdet_losses.detectors.anchor.retinanet_loss import RetinaNetLoss
from mmdet_losses.detectors.anchor.ssd_encoder import SSDTargetEncoder
from mmdet_losses.detectors.anchor.ssd_loss import MultiBoxLoss, SSDLoss

__all__ = [
    'MultiBoxLoss',
    'RetinaNetLoss',
    'RetinaNetOutputs',
    'RetinaNetPredictor',
    'RetinaNetTargetEncoder',
    'RetinaNetTargets',
    'SSDLoss',
    'SSDOutputs',
    'SSDPredictor',
    'SSDTargetEncoder',
    'SSDTargets',
]
