# YOLOv4-csp tested at 512, the size of its training.
# No training target, see README; the official weights have 46.2 AP (64.8 AP50) on test-dev at 512.
_base_ = './yolov4-csp_8xb8-640-273e_coco.py'

test_pipeline = _base_.test_pipeline
test_pipeline[1].size = (512, 512)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
