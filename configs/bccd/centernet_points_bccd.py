# CenterNet (objects as points) on blood cells: the network of centernet_points_digits.py.
_base_ = [
    '../_base_/models/csp_topdown_digits.py',
    '../_base_/datasets/bccd.py',
    '../_base_/digits.py',
]

num_classes = 3

model = dict(
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
            # 0.1 suits sizes in a 128 x 128 map; here they are about half
            loss_size=dict(type='MaskedL1Loss', loss_weight=0.2),
            loss_offset=dict(type='MaskedL1Loss', loss_weight=1.0),
        ),
    ),
    test_cfg=dict(score_thr=0.01, max_per_img=100),
)
