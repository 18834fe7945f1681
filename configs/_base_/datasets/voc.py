# PASCAL VOC 2007 + 2012 as MMDetection lays it out; the detector's config brings the pipelines.
_base_ = 'mmdet::_base_/datasets/voc0712.py'
