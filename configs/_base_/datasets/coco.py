# COCO 2017 in MMDetection's folder layout, without pipelines.
_base_ = 'mmdet::_base_/datasets/coco_detection.py'
