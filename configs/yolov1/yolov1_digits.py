# YOLOv1 on digits: minutes on two CPU cores. Cells have stride 16, so images must be 160 x 160
# for a grid of 10 x 10.
_base_ = [
    '../_base_/models/csp_fpn_digits.py',
    '../_base_/datasets/digits.py',
    '../_base_/digits.py',
]

num_classes = 10

model = dict(
    neck=None,
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='YOLOV1Predictor',
            num_classes=num_classes,
            in_channels=128,
            feat_size=(10, 10),
            side=10,
            num_boxes=2,
            hidden='shared',  # separate weights per cell need far more images
            hidden_channels=128,
            dropout=0.0,
        ),
        encoder=dict(
            type='YOLOV1TargetEncoder',
            num_classes=num_classes,
            num_boxes=2,
            topk=1000,  # quick before anything is learned
        ),
        criterion=dict(type='YOLOV1Loss', normalizer='images'),
    ),
    test_cfg=dict(
        nms=dict(type='nms', iou_threshold=0.4), score_thr=0.005, max_per_img=100, clip=True
    ),
)
