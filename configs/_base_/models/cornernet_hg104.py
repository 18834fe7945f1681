# CornerNet with Hourglass-104, as in the paper and its code.
num_classes = 80
num_stacks = 2

model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[104.01362025, 114.03422265, 119.9165958],  # B, G, R: the channel order is not changed
        std=[73.6027665, 69.89082075, 70.9150767],
        bgr_to_rgb=False,
    ),
    backbone=dict(type='HourglassNet', num_stacks=num_stacks),
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='CornerNetPredictor',
            in_channels=256,
            num_classes=num_classes,
            num_stacks=num_stacks,
            channels=256,
            pool_channels=128,
            prior=0.1,
        ),
        encoder=dict(
            type='CornerNetTargetEncoder',
            num_classes=num_classes,
            max_objects=128,
            radius=dict(mode='fixed', min_overlap=0.3),
            topk=100,
            num_dets=1000,
            ae_threshold=0.5,  # of embeddings
        ),
        criterion=dict(
            type='CornerNetLoss',
            loss_heatmap=dict(
                type='PenaltyReducedFocalLoss', alpha=2.0, beta=4.0, clamp=1e-4, loss_weight=1.0
            ),
            loss_embedding=dict(type='PullPushLoss', pull_weight=0.1, push_weight=0.1),
            loss_offset=dict(type='MaskedSmoothL1Loss', loss_weight=1.0),
        ),
    ),
    test_cfg=dict(
        score_thr=0.0, nms=dict(type='official_soft_nms', sigma=0.5, min_score=0.001, max_num=100)
    ),
)
tta_model = dict(type='CornerNetTTAModel')
