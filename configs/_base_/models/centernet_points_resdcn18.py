# CenterNet (objects as points) on ResNet-18 with deformable up-convolutions.
num_classes = 80

model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[104.01362025, 114.03422265, 119.9165958],  # B, G, R: the channel order is not changed
        std=[73.6027665, 69.89082075, 70.9150767],
        bgr_to_rgb=False,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='ResNet',
        depth=18,
        norm_eval=False,
        norm_cfg=dict(type='BN'),
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.pytorch.org/models/resnet18-f37072fd.pth',
        ),
    ),
    neck=dict(
        type='CTResNetNeck',
        in_channels=512,
        num_deconv_filters=(256, 128, 64),
        num_deconv_kernels=(4, 4, 4),
        use_dcn=True,
    ),
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='CenterNetPointsPredictor',
            in_channels=64,
            num_classes=num_classes,
            channels=64,
            weight_std=0.001,
        ),
        encoder=dict(
            type='CenterNetPointsTargetEncoder',
            num_classes=num_classes,
            max_objects=128,
            convention='official',
            radius=dict(mode='legacy', min_overlap=0.7),
            topk=100,
        ),
        criterion=dict(
            type='CenterNetPointsLoss',
            loss_heatmap=dict(
                type='PenaltyReducedFocalLoss', alpha=2.0, beta=4.0, clamp=1e-4, loss_weight=1.0
            ),
            loss_size=dict(type='MaskedL1Loss', loss_weight=0.1),
            loss_offset=dict(type='MaskedL1Loss', loss_weight=1.0),
        ),
    ),
    test_cfg=dict(score_thr=0.0, max_per_img=100),  # peak selection replaces NMS
)
tta_model = dict(type='CenterNetTTAModel')
