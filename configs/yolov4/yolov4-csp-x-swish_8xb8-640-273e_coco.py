# YOLOv4-csp-x-swish in darknet's layout and with darknet's loss, COCO, mosaic, 640.
# No training target, see README; the official weights have 51.5 AP (69.9 AP50) on test-dev at 640.
_base_ = './yolov4-csp-swish_8xb8-640-273e_coco.py'

channels = (320, 640, 1280)
half = (160, 320, 640)

model = dict(
    backbone=dict(arch='x'),
    neck=dict(in_channels=channels, out_channels=half, blocks=3, pyramid_pairs=2),
    bbox_head=dict(predictor=dict(in_channels=half)),
)
