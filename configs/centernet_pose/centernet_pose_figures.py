# Multi-person pose (objects as points) on stick figures: minutes on two CPU cores.
_base_ = [
    '../_base_/models/csp_topdown_digits.py',
    '../_base_/datasets/figures.py',
    '../_base_/digits.py',
]

num_keypoints = 17

model = dict(
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='CenterNetPosePredictor',
            in_channels=48,
            num_classes=1,
            num_keypoints=num_keypoints,
            channels=48,
        ),
        encoder=dict(
            type='CenterNetPoseTargetEncoder',
            num_keypoints=num_keypoints,
            num_classes=1,
            # the official radius grows with the person's box, to 7 of the 40 cells here; keypoints
            # are more precise with sharper peaks
            radius=dict(mode='fixed', min_overlap=0.5),
        ),
        criterion=dict(
            type='CenterNetPoseLoss',
            loss_heatmap=dict(type='PenaltyReducedFocalLoss', alpha=2.0, beta=4.0, loss_weight=1.0),
            # 0.1 suits sizes in a 128 x 128 map; here they are about a quarter
            loss_size=dict(type='MaskedL1Loss', loss_weight=0.4),
            loss_offset=dict(type='MaskedL1Loss', loss_weight=1.0),
            loss_keypoints=dict(type='MaskedWeightedL1Loss', loss_weight=1.0),
            loss_keypoint_heatmap=dict(
                type='PenaltyReducedFocalLoss', alpha=2.0, beta=4.0, loss_weight=1.0
            ),
            loss_keypoint_offset=dict(type='MaskedL1Loss', loss_weight=1.0),
        ),
    ),
    test_cfg=dict(score_thr=0.01, max_per_img=20),  # the maximum of the metric
)
# pairs of left and right keypoints, as in the data set
tta_model = dict(type='CenterNetTTAModel', flip_pairs=[(i, i + 1) for i in range(1, 17, 2)])

max_epochs = 6
train_cfg = dict(max_epochs=max_epochs, val_interval=3, dynamic_intervals=None)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=max_epochs, T_max=max_epochs)
