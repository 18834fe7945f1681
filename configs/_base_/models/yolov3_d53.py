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
        batch_augments=[  # a new size every 10 iterations
            dict(
                type='BatchSyncRandomResize',
                random_size_range=(320, 608),
                size_divisor=32,
                interval=10,
            )
        ],
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
    test_cfg=dict(
        nms=dict(type='nms', iou_threshold=0.45), score_thr=0.005, max_per_img=100, clip=True
    ),
)

yolov3_train_pipeline = [
    dict(type='Expand', mean=[0, 0, 0], to_rgb=True, ratio_range=(1, 2)),
    dict(type='MinIoURandomCrop', min_ious=(0.4, 0.5, 0.6, 0.7, 0.8, 0.9), min_crop_size=0.3),
    dict(type='Resize', scale=(size, size), keep_ratio=False),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackDetInputs'),
]
yolov3_test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(size, size), keep_ratio=False),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
