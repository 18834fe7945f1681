"""Metrics and hooks around training."""

from mmdet_losses.evaluation.coco_keypoints import CocoKeypointMetric
from mmdet_losses.evaluation.cpu import ChannelsLastHook, CPUAutocastOptimWrapper
from mmdet_losses.evaluation.head_time import HeadTimeHook
from mmdet_losses.evaluation.hooks import EpochSeedHook, NumPositivesHook
from mmdet_losses.evaluation.pictures import PicturesHook
from mmdet_losses.evaluation.seen_pixels import SeenPixels
from mmdet_losses.evaluation.skeletons import KeypointVisualizer
from mmdet_losses.evaluation.targets import draw_targets
from mmdet_losses.evaluation.tracking import MOTMetric

__all__ = [
    'CPUAutocastOptimWrapper',
    'ChannelsLastHook',
    'CocoKeypointMetric',
    'EpochSeedHook',
    'HeadTimeHook',
    'KeypointVisualizer',
    'MOTMetric',
    'NumPositivesHook',
    'PicturesHook',
    'SeenPixels',
    'draw_targets',
]
