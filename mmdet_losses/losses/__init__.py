"""Loss terms, one per file: a pure function and its registered module."""

from mmdet_losses.losses.box_iou import (
    BoxIoULoss,
    CompleteIoULoss,
    DistanceIoULoss,
    GeneralizedIoULoss,
    box_iou_loss,
)
from mmdet_losses.losses.center_track_focal import (
    CenterTrackFocalLoss,
    center_track_focal_loss,
)
from mmdet_losses.losses.hard_negative_cross_entropy import (
    HardNegativeCrossEntropyLoss,
    hard_negative_cross_entropy_loss,
    mine_hard_negatives,
)
from mmdet_losses.losses.heatmap_mse import HeatmapMSELoss, heatmap_mse_loss
from mmdet_losses.losses.masked_l1 import MaskedL1Loss, masked_l1_loss
from mmdet_losses.losses.masked_smooth_l1 import MaskedSmoothL1Loss, masked_smooth_l1_loss
from mmdet_losses.losses.masked_weighted_l1 import MaskedWeightedL1Loss, masked_weighted_l1_loss
from mmdet_losses.losses.penalty_reduced_focal import (
    PenaltyReducedFocalLoss,
    penalty_reduced_focal_loss,
)
from mmdet_losses.losses.pull_push import PullPushLoss, pull_push_loss
from mmdet_losses.losses.sigmoid_focal import SigmoidFocalLoss, sigmoid_focal_loss

__all__ = [
    'BoxIoULoss',
    'CenterTrackFocalLoss',
    'CompleteIoULoss',
    'DistanceIoULoss',
    'GeneralizedIoULoss',
    'HardNegativeCrossEntropyLoss',
    'HeatmapMSELoss',
    'MaskedL1Loss',
    'MaskedSmoothL1Loss',
    'MaskedWeightedL1Loss',
    'PenaltyReducedFocalLoss',
    'PullPushLoss',
    'SigmoidFocalLoss',
    'box_iou_loss',
    'center_track_focal_loss',
    'hard_negative_cross_entropy_loss',
    'heatmap_mse_loss',
    'masked_l1_loss',
    'masked_smooth_l1_loss',
    'masked_weighted_l1_loss',
    'mine_hard_negatives',
    'penalty_reduced_focal_loss',
    'pull_push_loss',
    'sigmoid_focal_loss',
]
