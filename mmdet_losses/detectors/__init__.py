"""Detector families, each a folder: contracts, encoders, losses, predictors, checkpoints."""

from mmdet_losses.detectors import anchor, center, corner, yolo

__all__ = ['anchor', 'center', 'corner', 'yolo']
