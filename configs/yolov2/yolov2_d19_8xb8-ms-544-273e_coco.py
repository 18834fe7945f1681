# YOLOv2, Darknet-19, COCO, trained at 320 to 608, tested at 544.
# Target: 21.6 AP (44.0 AP50) on test-dev at 544, no flip; source: table 1 of CenterNet (triplets).
_base_ = './yolov2_d19_8xb8-ms-273e_coco.py'

test_pipeline = _base_.yolov2_test_pipeline
test_pipeline[1].size = (544, 544)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
