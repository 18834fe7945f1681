# YOLOv3, Darknet-53, COCO, trained at 320 to 608, tested at 320.
# Target: 28.2 AP at 320 (abstract of the paper, COCO).
_base_ = './yolov3_d53_8xb8-ms-608-273e_coco.py'

test_pipeline = _base_.yolov3_test_pipeline
test_pipeline[1].size = (320, 320)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
