# SSD on digits: minutes on two CPU cores. Digits are about 1.6 times as high as wide.
_base_ = [
    '../_base_/models/csp_fpn_digits.py',
    '../_base_/datasets/digits.py',
    '../_base_/digits.py',
]

num_classes = 10
min_sizes = (24, 38)
max_sizes = (38, 56)
aspect_ratios = ((1.6,), (1.6,))

model = dict(
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='SSDPredictor',
            num_classes=num_classes,
            in_channels=(64, 64),
            num_anchors=(4, 4),
        ),
        encoder=dict(
            type='SSDTargetEncoder',
            num_classes=num_classes,
            min_sizes=min_sizes,
            max_sizes=max_sizes,
            strides=(8, 16),
            aspect_ratios=aspect_ratios,
        ),
        criterion=dict(
            type='SSDLoss',
            loss_cls=dict(type='HardNegativeCrossEntropyLoss', ratio=3.0, loss_weight=1.0),
            loss_box=dict(type='MaskedSmoothL1Loss', loss_weight=1.0),
        ),
    ),
    test_cfg=dict(
        nms=dict(type='nms', iou_threshold=0.45), score_thr=0.01, max_per_img=100, clip=True
    ),
)
