# YOLOv2-tiny, COCO, trained at 320 to 608, tested at 416: yolov2-tiny.cfg of Redmon's darknet.
# Target: 23.7 AP50 on COCO test-dev at 416 (darknet's page).
_base_ = ['../_base_/datasets/coco_mix.py', '../_base_/schedules/darknet_500k.py']

num_classes = 80
size = 416
# the official values are in cells; these are pixels of a 416 x 416 image
anchors = [
    [
        (18.3274, 21.6763),
        (59.9827, 66.001),
        (106.8298, 175.1789),
        (252.2502, 112.889),
        (312.6566, 293.385),
    ]
]

# one row per section of the cfg
layers = [
    dict(type='convolutional', filters=16, size=3, batch_normalize=True, activation='leaky'),
    dict(type='maxpool', size=2, stride=2, padding=1),
    dict(type='convolutional', filters=32, size=3, batch_normalize=True, activation='leaky'),
    dict(type='maxpool', size=2, stride=2, padding=1),
    dict(type='convolutional', filters=64, size=3, batch_normalize=True, activation='leaky'),
    dict(type='maxpool', size=2, stride=2, padding=1),
    dict(type='convolutional', filters=128, size=3, batch_normalize=True, activation='leaky'),
    dict(type='maxpool', size=2, stride=2, padding=1),
    dict(type='convolutional', filters=256, size=3, batch_normalize=True, activation='leaky'),
    dict(type='maxpool', size=2, stride=2, padding=1),
    dict(type='convolutional', filters=512, size=3, batch_normalize=True, activation='leaky'),
    dict(type='maxpool', size=2, stride=1, padding=1),
    dict(type='convolutional', filters=1024, size=3, batch_normalize=True, activation='leaky'),
    dict(type='convolutional', filters=512, size=3, batch_normalize=True, activation='leaky'),
    dict(type='convolutional', filters=425, size=1, activation='linear'),
    dict(type='region', anchors=5),
]

model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[0, 0, 0],
        std=[255, 255, 255],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(type='DarknetFromCfg', layers=layers, num_classes=num_classes),
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(type='DarknetPredictor', detector='yolov2', num_classes=num_classes),
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
            rescore=False,
            ignore_threshold=0.6,
            warmup_images=12800,
            normalizer='images',
        ),
    ),
    test_cfg=dict(
        nms=dict(type='nms', iou_threshold=0.45), score_thr=0.005, max_per_img=100, clip=True
    ),
)

train_pipeline = [
    dict(type='RedmonPlace', size=(size, size), jitter=0.2, max_objects=30),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RedmonColors', hue=0.1, saturation=1.5, exposure=1.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='DarknetLetterBox', size=(size, size)),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'border'),
    ),
]
train_dataloader = dict(
    batch_size=8,
    batch_sampler=dict(type='DrawnSizeBatchSampler', code='redmon', interval=10),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_iters=500_200)
