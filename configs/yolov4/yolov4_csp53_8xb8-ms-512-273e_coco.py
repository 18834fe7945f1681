# YOLOv4, CSPDarknet-53, COCO, trained as at 608, tested at 512.
# Target: 43.0 AP (64.9 AP50) on test-dev at 512 (darknet's README).
_base_ = './yolov4_csp53_8xb8-ms-608-273e_coco.py'

test_pipeline = _base_.test_pipeline
test_pipeline[1].size = (512, 512)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
