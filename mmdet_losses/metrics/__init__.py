"""Metrics that MMDetection lacks: AP of classes, COCO keypoints, MOT, pixels, and the oracle."""

from mmdet_losses.metrics.class_ap import ClassAPMetric
from mmdet_losses.metrics.coco_keypoints import CocoKeypointMetric
from mmdet_losses.metrics.seen_pixels import SeenPixels
from mmdet_losses.metrics.tracking import MOTMetric

__all__ = ['ClassAPMetric', 'CocoKeypointMetric', 'MOTMetric', 'SeenPixels']
