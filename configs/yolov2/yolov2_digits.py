# YOLOv2 on digits: minutes on two CPU cores. One map of stride 16, anchors by tools/anchors.py.
_base_ = [
    '../_base_/models/csp_fpn_digits.py',
    '../_base_/datasets/digits.py',
    '../_base_/digits.py',
]

num_classes = 10

model = dict(
    neck=dict(
        _delete_=True,
        type='YOLOV2Neck',
        in_channels=(64, 128),
        out_channels=128,
        passthrough_channels=32,
    ),
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='YOLOV2Predictor', num_classes=num_classes, in_channels=128, num_anchors=2
        ),
        encoder=dict(
            type='YOLOV2TargetEncoder',
            num_classes=num_classes,
            anchors=[[(22, 34), (36, 55)]],
            topk=1000,  # as MMDetection's nms_pre: fast with untrained scores
        ),
        criterion=dict(type='YOLOV2Loss', warmup_images=800, normalizer='images'),
    ),
    test_cfg=dict(
        nms=dict(type='nms', iou_threshold=0.45), score_thr=0.005, max_per_img=100, clip=True
    ),
)
