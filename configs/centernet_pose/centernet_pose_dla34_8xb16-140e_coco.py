# Multi-person pose (objects as points), DLA-34 with deformable up-sampling, COCO, "1x": 140 epochs
# from the weights of CenterNetPoints, DLA-34 2x (README: how to get them).
# Target: 54.7 keypoint AP on val2017 with flip test (--tta). Source: the official model zoo,
# multi_pose_dla_1x.
_base_ = [
    '../_base_/schedules/adam_140e.py',
    '../_base_/center_runtime.py',
    '../_base_/datasets/coco_keypoints.py',
]

num_keypoints = 17
load_from = 'checkpoints/centernet_points_dla34_2x.pth'

model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[104.01362025, 114.03422265, 119.9165958],  # B, G, R: the channel order is not changed
        std=[73.6027665, 69.89082075, 70.9150767],
        bgr_to_rgb=False,
        pad_size_divisor=32,
    ),
    backbone=dict(type='DLANet'),
    neck=dict(type='DLAUpNeck', in_channels=(64, 128, 256, 512), conv='dcn'),
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='CenterNetPosePredictor',
            in_channels=64,
            num_classes=1,
            num_keypoints=num_keypoints,
            channels=256,
        ),
        encoder=dict(
            type='CenterNetPoseTargetEncoder',
            num_keypoints=num_keypoints,
            num_classes=1,
            max_objects=32,
            radius=dict(mode='legacy', min_overlap=0.7),
            topk=100,
            min_keypoint_score=0.1,
            snap_reach=0.3,  # of the longer side of the box
        ),
        criterion=dict(
            type='CenterNetPoseLoss',
            loss_heatmap=dict(
                type='PenaltyReducedFocalLoss', alpha=2.0, beta=4.0, clamp=1e-4, loss_weight=1.0
            ),
            loss_size=dict(type='MaskedL1Loss', loss_weight=0.1),
            loss_offset=dict(type='MaskedL1Loss', loss_weight=1.0),
            loss_keypoints=dict(type='MaskedWeightedL1Loss', loss_weight=1.0),
            loss_keypoint_heatmap=dict(
                type='PenaltyReducedFocalLoss', alpha=2.0, beta=4.0, clamp=1e-4, loss_weight=1.0
            ),
            loss_keypoint_offset=dict(type='MaskedL1Loss', loss_weight=1.0),
        ),
    ),
    test_cfg=dict(score_thr=0.0, max_per_img=100),  # peak selection replaces NMS
)
# pairs of left and right keypoints, as in the data set
tta_model = dict(type='CenterNetTTAModel', flip_pairs=[(i, i + 1) for i in range(1, 17, 2)])

auto_scale_lr = dict(enable=False, base_batch_size=128)
# batch_sampler of 8 GPUs (README: batch norm)
official_split = dict(type='SplitBatchSampler', sizes=(9, *[17] * 7))
