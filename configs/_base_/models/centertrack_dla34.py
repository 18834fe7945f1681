# CenterTrack on DLA-34, with the unclipped edges of pedestrians.
model = dict(
    type='CenterTrack',
    data_preprocessor=dict(
        type='PairDataPreprocessor',
        mean=[104.01362025, 114.03422265, 119.9165958],  # B, G, R: the channel order is not changed
        std=[73.6027665, 69.89082075, 70.9150767],
        bgr_to_rgb=False,
        pad_size_divisor=32,
    ),
    backbone=dict(type='DLANet', previous_image=True, previous_heatmap=True),
    neck=dict(type='DLAUpNeck', conv='dcn'),
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='CenterTrackPredictor',
            in_channels=64,
            num_classes=1,
            channels=256,
            with_ltrb_amodal=True,
        ),
        encoder=dict(
            type='CenterTrackTargetEncoder',
            num_classes=1,
            max_objects=256,
            radius=dict(mode='legacy', min_overlap=0.7),
            min_track_score=0.5,
            center_noise=0.05,
            lost_rate=0.4,
            false_rate=0.1,
            topk=100,
        ),
        criterion=dict(
            type='CenterTrackLoss',
            loss_heatmap=dict(type='CenterTrackFocalLoss', clamp=1e-4, loss_weight=1.0),
            loss_offset=dict(type='MaskedWeightedL1Loss', loss_weight=1.0),
            loss_size=dict(type='MaskedWeightedL1Loss', loss_weight=0.1),
            loss_tracking=dict(type='MaskedWeightedL1Loss', loss_weight=1.0),
            loss_ltrb_amodal=dict(type='MaskedWeightedL1Loss', loss_weight=0.1),
        ),
    ),
    tracker=dict(type='CenterTrackTracker', new_score=0.4, max_age=-1, match='greedy'),
    test_cfg=dict(score_thr=0.4, max_per_img=100),
)
