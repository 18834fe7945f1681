# YOLOv4, CSPDarknet-53, COCO, trained as at 608, tested at 416.
# Target: 41.2 AP (62.8 AP50) on test-dev at 416 (darknet's README).
_base_ = './yolov4_csp53_8xb8-ms-608-273e_coco.py'

test_pipeline = _base_.test_pipeline
test_pipeline[1].size = (416, 416)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
