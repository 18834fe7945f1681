# YOLOv4, CSPDarknet-53, COCO, trained as at 608, tested at 320.
# Target: 38 AP (60 AP50) on test-dev at 320 (darknet's README).
_base_ = './yolov4_csp53_8xb8-ms-608-273e_coco.py'

test_pipeline = _base_.test_pipeline
test_pipeline[1].size = (320, 320)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
