"""One anchor: SSD and RetinaNet."""

from mmdet_losses.detectors.anchor.contracts import (
    RetinaNetOutputs,
    RetinaNetTargets,
    SSDOutputs,
    SSDTargets,
)
from mmdet_losses.detectors.anchor.encoders import RetinaNetTargetEncoder, SSDTargetEncoder
from mmdet_losses.detectors.anchor.losses import MultiBoxLoss, RetinaNetLoss, SSDLoss
from mmdet_losses.detectors.anchor.predictors import RetinaNetPredictor, SSDPredictor

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
