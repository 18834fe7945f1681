# CornerNet-Saccade, Hourglass-54, COCO, crops of 255 x 255.
# Target: 43.2 AP on test-dev, 42.6 on val2017 with Hourglass-54. Source: the paper's abstract,
# arXiv 1904.08900 (43.2), and its table of results (42.6).
_base_ = [
    '../_base_/datasets/coco.py',
    '../_base_/schedules/adam_500k.py',
    '../_base_/iteration_runtime.py',
]

num_classes = 80
num_stacks = 3

model = dict(
    type='CornerNetSaccade',
    input_size=(255, 255),
    full_image_sides=(192, 255),  # pixels of the longest side, first pass
    attention_threshold=0.3,
    zooms=(1, 2, 4),  # large, medium, small objects
    max_crops=30,
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[104.01362025, 114.03422265, 119.9165958],  # B, G, R: the channel order is not changed
        std=[73.6027665, 69.89082075, 70.9150767],
        bgr_to_rgb=False,
    ),
    backbone=dict(type='SaccadeHourglassNet', num_stacks=num_stacks, with_merges=True),
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='CornerNetSaccadePredictor',
            in_channels=256,
            num_classes=num_classes,
            num_stacks=num_stacks,
            channels=256,
            pool_channels=128,
            attention_channels=(384, 384, 256),
            prior=0.1,
        ),
        encoder=dict(
            type='CornerNetSaccadeTargetEncoder',
            num_classes=num_classes,
            max_objects=128,
            radius=dict(mode='fixed', min_overlap=0.5),
            attention_strides=(16, 8, 4),
            attention_ranges=((96, 256), (32, 96), (0, 32)),  # longest sides in pixels
            min_visibility=0.5,
            min_side=16,  # pixels
            topk=12,
            num_dets=12,
            ae_threshold=0.3,  # of embeddings
            no_border=True,
        ),
        criterion=dict(
            type='CornerNetSaccadeLoss',
            loss_heatmap=dict(
                type='PenaltyReducedFocalLoss', alpha=2.0, beta=4.0, clamp=1e-4, loss_weight=1.0
            ),
            loss_embedding=dict(type='PullPushLoss', pull_weight=0.1, push_weight=0.1),
            loss_offset=dict(type='MaskedSmoothL1Loss', loss_weight=1.0),
            loss_attention=dict(
                type='PenaltyReducedFocalLoss', alpha=2.0, beta=4.0, clamp=1e-4, loss_weight=1.0
            ),
        ),
    ),
    test_cfg=dict(
        score_thr=0.0,
        nms=dict(
            type='official_soft_nms', sigma=0.7, min_score=0.001, stale_rows=False, max_num=100
        ),
    ),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='CrowdAnnotations', crowd='object'),
    dict(type='CheckAnnotations', num_classes=num_classes),
    dict(
        type='ReferenceScaleCrop',
        size=(255, 255),
        classes=((96, 96, 254), (32, 32, 96), (0, 16, 32)),  # side above, new sides from, to
        scales=(0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1),  # images without objects
        centered_prob=0.5,
        flip_prob=0.5,
    ),
    dict(type='ColorJitterLighting', variance=0.4, lighting=0.1),
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
    batch_size=6,
    num_workers=4,
    batch_sampler=None,
    dataset=dict(pipeline=train_pipeline, filter_cfg=None),  # images without objects are used
)
val_dataloader = dict(batch_size=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

# the paper's batch: 48 images (4 GPUs)
auto_scale_lr = dict(enable=False, base_batch_size=48)
# batch_sampler of 4 GPUs (README: batch norm)
official_split = dict(type='SplitBatchSampler', sizes=(12, 12, 12, 12))
