# YOLOv2 on Darknet-19 with the boxes and classes of PASCAL VOC, and its pipelines.
num_classes = 20
size = 416
# the official values are in cells; these are pixels of a 416 x 416 image
anchors = [
    [
        (42.3072, 55.4064),
        (102.168, 128.3021),
        (161.7878, 259.1654),
        (303.0758, 154.897),
        (359.5648, 320.2272),
    ]
]

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
    backbone=dict(type='PlainDarknet', arch='darknet19', out_indices=(4, 5), norm_cfg=norm_cfg),
    neck=dict(
        type='YOLOV2Neck',
        in_channels=(512, 1024),
        out_channels=1024,
        passthrough_channels=64,
        norm_cfg=norm_cfg,
    ),
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='YOLOV2Predictor', num_classes=num_classes, in_channels=1024, num_anchors=5
        ),
        encoder=dict(
            type='YOLOV2TargetEncoder',
            num_classes=num_classes,
            anchors=anchors,
            code='redmon',
            max_objects=30,
        ),
        criterion=dict(
            type='YOLOV2Loss',
            code='redmon',
            object_scale=5.0,
            no_object_scale=1.0,
            class_scale=1.0,
            coord_scale=1.0,
            ignore_threshold=0.6,
            warmup_images=12800,
            normalizer='images',
        ),
    ),
    test_cfg=dict(
        nms=dict(type='nms', iou_threshold=0.45), score_thr=0.005, max_per_img=100, clip=True
    ),
)

yolov2_train_pipeline = [
    dict(type='Expand', mean=[0, 0, 0], to_rgb=True, ratio_range=(1, 2)),
    dict(type='MinIoURandomCrop', min_ious=(0.4, 0.5, 0.6, 0.7, 0.8, 0.9), min_crop_size=0.3),
    dict(type='Resize', scale=(size, size), keep_ratio=False),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackDetInputs'),
]
yolov2_test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(size, size), keep_ratio=False),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
