"""Metrics that MMDetection lacks: COCO keypoints, MOT, share of pixels, and the oracle."""

from mmdet_losses.metrics.coco_keypoints import CocoKeypointMetric
from mmdet_losses.metrics.seen_pixels import SeenPixels
from mmdet_losses.metrics.tracking import MOTMetric

__all__ = ['CocoKeypointMetric', 'MOTMetric', 'SeenPixels']
