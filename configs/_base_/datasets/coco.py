# COCO 2017 as MMDetection lays it out; the detector's config brings the pipelines.
_base_ = 'mmdet::_base_/datasets/coco_detection.py'
