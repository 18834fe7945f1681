# SSD300 on VGG-16 with the boxes and classes of PASCAL VOC, and its pipelines.
num_classes = 20
size = 300
mean = [123, 117, 104]

model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=mean, std=[1, 1, 1], bgr_to_rgb=True, pad_size_divisor=1
    ),
    backbone=dict(
        type='SSDVGG',
        depth=16,
        with_last_pool=False,
        ceil_mode=True,
        out_indices=(3, 4),
        out_feature_indices=(22, 34),
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://vgg16_caffe'),
    ),
    neck=dict(
        type='SSDNeck',
        in_channels=(512, 1024),
        out_channels=(512, 1024, 512, 256, 256, 256),
        level_strides=(2, 2, 1, 1),
        level_paddings=(1, 1, 0, 0),
        l2_norm_scale=20,
    ),
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='SSDPredictor',
            num_classes=num_classes,
            in_channels=(512, 1024, 512, 256, 256, 256),
            num_anchors=(4, 6, 6, 6, 4, 4),
        ),
        encoder=dict(
            type='SSDTargetEncoder',
            num_classes=num_classes,
            min_sizes=(30, 60, 111, 162, 213, 264),
            max_sizes=(60, 111, 162, 213, 264, 315),
            strides=(8, 16, 32, 64, 100, 300),
            aspect_ratios=((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
            clip=True,
            topk=200,
        ),
        criterion=dict(
            type='SSDLoss',
            normalizer='positives_all_ranks',
            loss_cls=dict(type='HardNegativeCrossEntropyLoss', ratio=3.0, loss_weight=1.0),
            loss_box=dict(type='MaskedSmoothL1Loss', loss_weight=1.0),
        ),
    ),
    # ssd.pytorch's test: NMS of the 200 best boxes per class, no limit per image
    test_cfg=dict(nms=dict(type='nms', iou_threshold=0.45), score_thr=0.01, clip=True),
)

# the official starting weights: both programs turn the connected layers of VGG-16 into convolutions
vgg_reduced = dict(
    type='Pretrained', checkpoint='checkpoints/vgg16_reducedfc.pth', prefix='backbone.'
)

# ssd.pytorch's augmentation
ssd_train_pipeline = [
    dict(type='SSDAugmentation', mean=mean, code='pytorch', size=(size, size)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
# the original Caffe code's augmentation
caffe_train_pipeline = [
    dict(type='SSDAugmentation', mean=mean, code='caffe', size=(size, size)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
# MMDetection's augmentation of its SSD; ExpandCrop is its Expand and MinIoURandomCrop
mmdet_train_pipeline = [
    dict(type='ExpandCrop', mean=mean, ratio_range=(1, 4), min_ious=(0.1, 0.3, 0.5, 0.7, 0.9)),
    dict(type='Resize', scale=(size, size), keep_ratio=False),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackDetInputs'),
]
ssd_test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(size, size), keep_ratio=False),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
