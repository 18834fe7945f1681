# CenterNet (objects as points) for your classes, from MobileNetV2 with ImageNet weights:
# tools/new_project.py writes a config that inherits this one.
_base_ = [
    '../_base_/models/csp_topdown_digits.py',
    '../_base_/datasets/own.py',
    '../_base_/own.py',
]

num_classes = 1

model = dict(
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        out_indices=(1, 2, 4, 7),  # strides 4, 8, 16, 32
        frozen_stages=2,
        norm_eval=True,  # batches of 8 are too small for the statistics of BN
        init_cfg=dict(
            type='Pretrained', checkpoint='checkpoints/mobilenet_v2.pth', prefix='backbone.'
        ),
    ),
    neck=dict(in_channels=[24, 32, 96, 1280]),
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='CenterNetPointsPredictor',
            in_channels=48,
            num_classes=num_classes,
            channels=48,
            weight_std=0.001,
        ),
        encoder=dict(type='CenterNetPointsTargetEncoder', num_classes=num_classes),
        criterion=dict(
            type='CenterNetPointsLoss',
            loss_heatmap=dict(type='PenaltyReducedFocalLoss', alpha=2.0, beta=4.0, loss_weight=1.0),
            loss_size=dict(type='MaskedL1Loss', loss_weight=0.1),
            loss_offset=dict(type='MaskedL1Loss', loss_weight=1.0),
        ),
    ),
    test_cfg=dict(score_thr=0.01, max_per_img=100),
)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
