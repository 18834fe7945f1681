# YOLOv3 on Darknet-53, pixels in [0, 1], trained at 320 to 608, with its pipelines: COCO, 608.
num_classes = 80
size = 608
norm_cfg = dict(type='BN', eps=1e-5, momentum=0.01)  # darknet's

model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[0, 0, 0],
        std=[255, 255, 255],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='Darknet',
        depth=53,
        out_indices=(3, 4, 5),
        norm_cfg=norm_cfg,
        norm_eval=False,
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://darknet53'),
    ),
    neck=dict(
        type='YOLOV3Neck',
        num_scales=3,
        in_channels=[1024, 512, 256],
        out_channels=[512, 256, 128],
        norm_cfg=norm_cfg,
    ),
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='YOLOV3Predictor',
            num_classes=num_classes,
            in_channels=(512, 256, 128),
            norm_cfg=norm_cfg,
        ),
        encoder=dict(
            type='YOLOV3TargetEncoder',
            num_classes=num_classes,
            anchors=[  # coarse to fine
                [(116, 90), (156, 198), (373, 326)],
                [(30, 61), (62, 45), (59, 119)],
                [(10, 13), (16, 30), (33, 23)],
            ],
            code='redmon',
            max_objects=90,
        ),
        criterion=dict(type='YOLOV3Loss', code='redmon', ignore_threshold=0.7, normalizer='images'),
    ),
    # `detector valid` of darknet: every box counts
    test_cfg=dict(nms=dict(type='nms', iou_threshold=0.45), score_thr=0.005, clip=True),
)

# 320 to 608 pixels, another size every 10 iterations, one size for all images of a batch
drawn_sizes = dict(type='DrawnSizeBatchSampler', code='redmon', interval=10)
yolov3_train_pipeline = [
    dict(type='RedmonPlace', size=(size, size), jitter=0.3, max_objects=90),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RedmonColors', hue=0.1, saturation=1.5, exposure=1.5),
    dict(type='PackDetInputs'),
]
yolov3_test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='DarknetLetterBox', size=(size, size)),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'border'),
    ),
]
