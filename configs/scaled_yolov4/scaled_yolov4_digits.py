# Scaled-YOLOv4 on digits: minutes on two CPU cores.
_base_ = [
    '../_base_/models/csp_fpn_digits.py',
    '../_base_/datasets/digits.py',
    '../_base_/digits.py',
]

num_classes = 10

model = dict(
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='ScaledYOLOV4Predictor',
            num_classes=num_classes,
            in_channels=(64, 64),
            num_anchors=1,  # one classifier per map learns faster than three
            strides=(8, 16),
        ),
        encoder=dict(
            type='ScaledYOLOV4TargetEncoder',
            num_classes=num_classes,
            anchors=[[(22, 34)], [(36, 55)]],  # tools/anchors.py --levels 2 --per-level 1
            anchor_threshold=2.0,  # sides differ by a factor of 3, so 4 would match every anchor
            topk=1000,  # as MMDetection's nms_pre: fast with untrained scores
        ),
        criterion=dict(type='ScaledYOLOV4Loss', balance=(4.0, 1.0), cls_gain=2.0),
    ),
    test_cfg=dict(
        nms=dict(type='nms', iou_threshold=0.6), score_thr=0.001, max_per_img=100, clip=True
    ),
)
