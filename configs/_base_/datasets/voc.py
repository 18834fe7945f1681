# PASCAL VOC 2007 + 2012 in MMDetection's folder layout, without pipelines.
_base_ = 'mmdet::_base_/datasets/voc0712.py'
