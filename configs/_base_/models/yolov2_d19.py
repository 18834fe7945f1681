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
    # `detector valid` of darknet: every box counts
    test_cfg=dict(nms=dict(type='nms', iou_threshold=0.45), score_thr=0.005, clip=True),
)

# 320 to 608 pixels, another size every 10 iterations, one size for all images of a batch
drawn_sizes = dict(type='DrawnSizeBatchSampler', code='redmon', interval=10)
yolov2_train_pipeline = [
    dict(type='RedmonPlace', size=(size, size), jitter=0.3, max_objects=30),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RedmonColors', hue=0.1, saturation=1.5, exposure=1.5),
    dict(type='PackDetInputs'),
]
yolov2_test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='DarknetLetterBox', size=(size, size)),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'border'),
    ),
]
