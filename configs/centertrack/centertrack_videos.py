# CenterTrack on moving digits: minutes on two CPU cores.
_base_ = ['../_base_/datasets/videos.py', '../_base_/digits.py']

num_classes = 1
tracker = dict(type='CenterTrackTracker', new_score=0.4, max_age=6)

model = dict(
    type='CenterTrack',
    data_preprocessor=dict(
        type='PairDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='PreviousFrameBackbone',
        stem='stem',
        channels=16,
        stride=2,
        backbone=dict(
            type='CSPDarknet',
            deepen_factor=0.33,
            widen_factor=0.25,
            out_indices=(1, 2, 3, 4),
            act_cfg=dict(type='ReLU'),  # half the time of Swish on a CPU
        ),
    ),
    neck=dict(type='TopDownNeck', in_channels=[32, 64, 128, 256], out_channels=48),
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='CenterTrackPredictor',
            in_channels=48,
            num_classes=num_classes,
            channels=48,
            with_ltrb_amodal=True,
            prior=0.1,  # higher initial scores for a short training
        ),
        encoder=dict(
            type='CenterTrackTargetEncoder',
            num_classes=num_classes,
            max_objects=32,
            min_track_score=0.4,
            center_noise=0.05,
            lost_rate=0.2,
            false_rate=0.1,
            topk=50,
        ),
        criterion=dict(
            type='CenterTrackLoss',
            loss_heatmap=dict(type='CenterTrackFocalLoss', loss_weight=1.0),
            loss_offset=dict(type='MaskedWeightedL1Loss', loss_weight=1.0),
            # 0.1 suits sizes in a large map; here they are about a quarter
            loss_size=dict(type='MaskedWeightedL1Loss', loss_weight=0.4),
            loss_tracking=dict(type='MaskedWeightedL1Loss', loss_weight=1.0),
            loss_ltrb_amodal=dict(type='MaskedWeightedL1Loss', loss_weight=0.4),
        ),
    ),
    tracker=tracker,
    test_cfg=dict(score_thr=0.4, max_per_img=50),
)

val_evaluator = [
    dict(type='MOTMetric'),
    # the same detections, associated without motion
    dict(type='MOTMetric', prefix='mot_still', tracker=dict(displacement=False, **tracker)),
]
test_evaluator = val_evaluator

# also tested by `make zoo`
also_tested = {'displacement zeroed': {'model.tracker.displacement': False}}
