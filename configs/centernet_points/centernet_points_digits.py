# CenterNet (objects as points) on digits: minutes on two CPU cores.
_base_ = ['../_base_/datasets/digits.py', '../_base_/digits.py']

num_classes = 10

model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='CSPDarknet',
        # channels in, out, blocks, with shortcuts, with pyramid pooling: up to stride 16
        arch_ovewrite=[
            [64, 128, 3, True, False],
            [128, 256, 9, True, False],
            [256, 512, 9, True, False],
        ],
        deepen_factor=0.33,
        widen_factor=0.25,
        out_indices=(1, 2, 3),
        act_cfg=dict(type='ReLU'),  # half the time of Swish on a CPU
    ),
    neck=dict(type='TopDownNeck', in_channels=[32, 64, 128], out_channels=48),
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
            # 0.1 suits sizes in a 128 x 128 map; here they are about a quarter
            loss_size=dict(type='MaskedL1Loss', loss_weight=0.4),
            loss_offset=dict(type='MaskedL1Loss', loss_weight=1.0),
        ),
    ),
    test_cfg=dict(score_thr=0.01, max_per_img=100),
)
