# YOLOv2, Darknet-19, PASCAL VOC 2007 + 2012, trained at 320 to 608, tested at 544.
# Target: 78.6 mAP on VOC 2007 test at 544 (abstract of the paper).
_base_ = './yolov2_d19_8xb8-ms-310e_voc0712.py'

test_pipeline = _base_.yolov2_test_pipeline
test_pipeline[1].size = (544, 544)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
