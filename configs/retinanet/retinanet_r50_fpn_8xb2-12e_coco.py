# RetinaNet, ResNet-50, FPN, COCO, 12 epochs.
# Target: 36.5 AP on val2017, 1333 x 800, no flip; source: MMDetection, retinanet_r50_fpn_1x.
_base_ = [
    '../_base_/datasets/coco.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]

num_classes = 80

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
        type='ResNet',
        depth=50,
        frozen_stages=1,
        norm_eval=True,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.pytorch.org/models/resnet50-0676ba61.pth',
        ),
    ),
    neck=dict(
        type='FPN',
        in_channels=[256, 512, 1024, 2048],
        out_channels=256,
        start_level=1,
        add_extra_convs='on_input',
        num_outs=5,
    ),
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='RetinaNetPredictor',
            num_classes=num_classes,
            in_channels=256,
            num_anchors=9,
            feat_channels=256,
            stacked_convs=4,
            prior=0.01,
        ),
        encoder=dict(
            type='RetinaNetTargetEncoder',
            num_classes=num_classes,
            strides=(8, 16, 32, 64, 128),
            octave_base_scale=4,
            scales_per_octave=3,
            ratios=(0.5, 1.0, 2.0),
            positive_iou=0.5,
            negative_iou=0.4,
            topk=1000,
        ),
        criterion=dict(
            type='RetinaNetLoss',
            loss_cls=dict(type='SigmoidFocalLoss', alpha=0.25, gamma=2.0),
            loss_box=dict(type='MaskedL1Loss'),
            normalizer='positives_and_empty_images',
        ),
    ),
    test_cfg=dict(
        clip=True, nms=dict(type='nms', iou_threshold=0.5), score_thr=0.05, max_per_img=100
    ),
)

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            # Detectron skips crowds; MMDetection's RetinaHead reads none (ignore_iof_thr=-1)
            dict(type='CrowdAnnotations', crowd='drop'),
            dict(type='Resize', scale=(1333, 800), keep_ratio=True),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PlanarImage'),  # a faster PackDetInputs
            dict(type='PackDetInputs'),
        ]
    )
)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4))
auto_scale_lr = dict(enable=False, base_batch_size=16)
