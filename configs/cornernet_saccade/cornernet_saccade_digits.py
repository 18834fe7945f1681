# CornerNet-Saccade on small digits in large images: minutes on two CPU cores.
# All sizes are about half of those in the full recipe: crops of 127 x 127, digits of 24 to 64.
_base_ = ['../_base_/datasets/digits.py', '../_base_/digits.py']

num_classes = 10
data_root = 'data/digits_large/'
made_by = dict(train=1000, val=100, size=(512, 512), objects=(1, 6), scale=(20, 64))
also_tested = {'single pass': {'model.max_crops': 0}}  # by tools/zoo.py

model = dict(
    type='CornerNetSaccade',
    input_size=(127, 127),
    full_image_sides=(96, 127),
    attention_threshold=0.3,
    zooms=(1, 2, 4),
    max_crops=12,
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type='SaccadeHourglassNet',
        num_stacks=1,
        stage_channels=(48, 64, 96, 128),
        stage_blocks=(1, 1, 1, 2),
        feat_channels=64,
    ),
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='CornerNetSaccadePredictor',
            in_channels=64,
            num_classes=num_classes,
            channels=48,
            pool_channels=32,
            attention_channels=(96, 64, 48),
        ),
        encoder=dict(
            type='CornerNetSaccadeTargetEncoder',
            num_classes=num_classes,
            max_objects=32,
            attention_ranges=((48, 128), (16, 48), (0, 16)),
            min_side=8,
        ),
        criterion=dict(
            type='CornerNetSaccadeLoss',
            loss_heatmap=dict(type='PenaltyReducedFocalLoss', alpha=2.0, beta=4.0, loss_weight=1.0),
            loss_embedding=dict(type='PullPushLoss', pull_weight=0.1, push_weight=0.1),
            loss_offset=dict(type='MaskedSmoothL1Loss', loss_weight=1.0),
            loss_attention=dict(
                type='PenaltyReducedFocalLoss', alpha=2.0, beta=4.0, loss_weight=1.0
            ),
        ),
    ),
    test_cfg=dict(score_thr=0.01, nms=dict(type='soft_nms', iou_threshold=0.5), max_per_img=100),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='ReferenceScaleCrop',
        size=(127, 127),
        classes=((48, 48, 126), (16, 16, 48), (0, 8, 16)),
        scales=(0.25, 0.5, 1.0),
        centered_prob=0.0,
        flip_prob=0.0,  # a mirrored digit is another one
    ),
    dict(type='PackCropInputs'),
]
test_pipeline = [  # the detector chooses the scales, so there is no Resize
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale_factor=1.0, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        _delete_=True,
        type='RepeatDataset',  # a new crop in every epoch
        times=3,
        dataset=dict(
            type='CocoDataset',
            data_root=data_root,
            ann_file='annotations/train.json',
            data_prefix=dict(img='train/'),
            metainfo=dict(classes=tuple('0123456789')),
            pipeline=train_pipeline,
        ),
    ),
)
val_dataloader = dict(batch_size=4, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = [
    dict(type='CocoMetric', ann_file=data_root + 'annotations/val.json', metric='bbox'),
    dict(type='SeenPixels'),
]
test_evaluator = val_evaluator
