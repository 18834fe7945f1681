"""Centre family: CenterNetPoints, CenterNetPose, CenterTrack."""

from mmdet_losses.detectors.center.centernet_points_encoder import CenterNetPointsTargetEncoder
from mmdet_losses.detectors.center.centernet_points_loss import CenterNetPointsLoss
from mmdet_losses.detectors.center.centernet_pose_encoder import CenterNetPoseTargetEncoder
from mmdet_losses.detectors.center.centernet_pose_loss import CenterNetPoseLoss
from mmdet_losses.detectors.center.centertrack import CenterTrack
from mmdet_losses.detectors.center.centertrack_encoder import (
    CenterTrackTargetEncoder,
    PreviousFrame,
)
from mmdet_losses.detectors.center.centertrack_loss import CenterTrackLoss
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
from mmdet_losses.detectors.center.predictors import (
    CenterNetPointsPredictor,
    CenterNetPosePredictor,
    CenterTrackPredictor,
)
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
