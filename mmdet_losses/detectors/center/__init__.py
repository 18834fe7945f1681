"""One centre: CenterNet objects as points, multi-person pose, CenterTrack."""

from mmdet_losses.detectors.center.contracts import (
    CenterNetPointsOutputs,
    CenterNetPointsTargets,
    CenterNetPoseOutputs,
    CenterNetPoseTargets,
    CenterTrackOutputs,
    CenterTrackTargets,
    DenseKeypoints,
    DenseSize,
)
from mmdet_losses.detectors.center.detectors import CenterTrack
from mmdet_losses.detectors.center.losses import (
    CenterNetPointsLoss,
    CenterNetPoseLoss,
    CenterTrackLoss,
)
from mmdet_losses.detectors.center.points_encoder import CenterNetPointsTargetEncoder
from mmdet_losses.detectors.center.pose_encoder import CenterNetPoseTargetEncoder
from mmdet_losses.detectors.center.predictors import (
    CenterNetPointsPredictor,
    CenterNetPosePredictor,
    CenterTrackPredictor,
)
from mmdet_losses.detectors.center.track_encoder import CenterTrackTargetEncoder, PreviousFrame
from mmdet_losses.detectors.center.tracker import CenterTrackTracker
from mmdet_losses.detectors.center.tta import CenterNetTTAModel

__all__ = [
    'CenterNetPointsLoss',
    'CenterNetPointsOutputs',
    'CenterNetPointsPredictor',
    'CenterNetPointsTargetEncoder',
    'CenterNetPointsTargets',
    'CenterNetPoseLoss',
    'CenterNetPoseOutputs',
    'CenterNetPosePredictor',
    'CenterNetPoseTargetEncoder',
    'CenterNetPoseTargets',
    'CenterNetTTAModel',
    'CenterTrack',
    'CenterTrackLoss',
    'CenterTrackOutputs',
    'CenterTrackPredictor',
    'CenterTrackTargetEncoder',
    'CenterTrackTargets',
    'CenterTrackTracker',
    'DenseKeypoints',
    'DenseSize',
    'PreviousFrame',
]
