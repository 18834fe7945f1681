# YOLOv3, Darknet-53, COCO, trained at 320 to 608, tested at 416.
# Target: 55.3 AP50 at 416 (darknet's README, COCO).
_base_ = './yolov3_d53_8xb8-ms-608-273e_coco.py'

test_pipeline = _base_.yolov3_test_pipeline
test_pipeline[1].size = (416, 416)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
