"""Two corners: CornerNet, CornerNet-Squeeze, CornerNet-Saccade, CenterNet keypoint triplets."""

from mmdet_losses.detectors.corner.contracts import (
    CenterNetTripletOutputs,
    CenterNetTripletTargets,
    CornerNetOutputs,
    CornerNetSaccadeOutputs,
    CornerNetSaccadeTargets,
    CornerNetTargets,
)
from mmdet_losses.detectors.corner.detectors import CornerNetSaccade
from mmdet_losses.detectors.corner.encoders import (
    CenterNetTripletTargetEncoder,
    CornerNetTargetEncoder,
)
from mmdet_losses.detectors.corner.losses import (
    CenterNetTripletLoss,
    CornerNetLoss,
    CornerNetSaccadeLoss,
)
from mmdet_losses.detectors.corner.predictors import (
    CenterNetTripletPredictor,
    CornerNetPredictor,
    CornerNetSaccadePredictor,
)
from mmdet_losses.detectors.corner.saccade_encoder import CornerNetSaccadeTargetEncoder
from mmdet_losses.detectors.corner.tta import CornerNetTTAModel

__all__ = [
    'CenterNetTripletLoss',
    'CenterNetTripletOutputs',
    'CenterNetTripletPredictor',
    'CenterNetTripletTargetEncoder',
    'CenterNetTripletTargets',
    'CornerNetLoss',
    'CornerNetOutputs',
    'CornerNetPredictor',
    'CornerNetSaccade',
    'CornerNetSaccadeLoss',
    'CornerNetSaccadeOutputs',
    'CornerNetSaccadePredictor',
    'CornerNetSaccadeTargetEncoder',
    'CornerNetSaccadeTargets',
    'CornerNetTTAModel',
    'CornerNetTargetEncoder',
    'CornerNetTargets',
]
