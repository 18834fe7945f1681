# YOLOv2-tiny, with the pipelines of YOLOv2; a recipe gives the last layers and the anchors.
_base_ = ['./yolov2_d19.py', './darknet_tiny_trunk.py']

model = dict(
    backbone=dict(_delete_=True, type='DarknetFromCfg', num_classes=20),
    neck=None,
    bbox_head=dict(
        predictor=dict(_delete_=True, type='DarknetPredictor', detector='yolov2', num_classes=20)
    ),
)
