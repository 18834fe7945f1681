"""Corner family: CornerNet, CornerNet-Squeeze, CornerNet-Saccade, CenterNet keypoint triplets."""

from mmdet_losses.detectors.corner.centernet_triplet_encoder import CenterNetTripletTargetEncoder
from mmdet_losses.detectors.corner.centernet_triplet_loss import CenterNetTripletLoss
from mmdet_losses.detectors.corner.contracts import (
    CenterKeypoint,
    CenterNetTripletOutputs,
    CenterNetTripletTargets,
    CornerNetOutputs,
    CornerNetSaccadeOutputs,
    CornerNetSaccadeTargets,
    CornerNetTargets,
    Keypoint,
    KeypointTarget,
)
from mmdet_losses.detectors.corner.cornernet_encoder import CornerNetTargetEncoder
from mmdet_losses.detectors.corner.cornernet_loss import CornerNetLoss
from mmdet_losses.detectors.corner.cornernet_saccade import CornerNetSaccade
from mmdet_losses.detectors.corner.cornernet_saccade_encoder import CornerNetSaccadeTargetEncoder
from mmdet_losses.detectors.corner.cornernet_saccade_loss import CornerNetSaccadeLoss
from mmdet_losses.detectors.corner.predictors import (
    CenterNetTripletPredictor,
    CornerNetPredictor,
    CornerNetSaccadePredictor,
)
from mmdet_losses.detectors.corner.tta import CornerNetTTAModel

__all__ = [
    'CenterKeypoint',
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
    'Keypoint',
    'KeypointTarget',
]
