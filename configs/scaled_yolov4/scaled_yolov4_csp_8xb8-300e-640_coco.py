# YOLOv4-csp in the layout of the branch yolov4-large of ScaledYOLOv4, COCO, 640. No target: the
# published 48.7 AP belong to scaled_yolov4_csp-cfg_8xb8-300e-640_coco.py.
_base_ = ['../_base_/datasets/coco_mix.py', '../_base_/schedules/scaled_yolov4_300e.py']

num_classes = 80
size = 640
norm_cfg = dict(type='BN', eps=1e-3, momentum=0.03)

model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[0, 0, 0],
        std=[255, 255, 255],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(type='DarknetCSP', arch='csp', out_indices=(3, 4, 5), norm_cfg=norm_cfg),
    neck=dict(
        type='ScaledYOLOV4Neck',
        in_channels=(256, 512, 1024),
        out_channels=(128, 256, 512),
        blocks=2,
        renorm=True,
        norm_cfg=norm_cfg,
    ),
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='ScaledYOLOV4Predictor',
            num_classes=num_classes,
            in_channels=(128, 256, 512),
            num_anchors=3,
            strides=(8, 16, 32),
            norm_cfg=norm_cfg,
        ),
        encoder=dict(
            type='ScaledYOLOV4TargetEncoder',
            num_classes=num_classes,
            anchors=[  # fine to coarse
                [(12, 16), (19, 36), (40, 28)],
                [(36, 75), (76, 55), (72, 146)],
                [(142, 110), (192, 243), (459, 401)],
            ],
            strides=(8, 16, 32),
            anchor_threshold=4.0,
        ),
        criterion=dict(type='ScaledYOLOV4Loss', box_gain=0.05, obj_gain=1.0, cls_gain=0.5),
    ),
    test_cfg=dict(
        nms=dict(type='nms', iou_threshold=0.65), score_thr=0.001, max_per_img=300, clip=True
    ),
)

train_pipeline = [
    dict(type='ScaledYOLOv4Mosaic', size=size, scale=0.5, translate=0.5, mixup=0.0),
    dict(type='ScaledYOLOv4HSV', hue=0.015, saturation=0.7, value=0.4),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PlanarImage'),  # a faster PackDetInputs
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ScaledYOLOv4LetterBox', size=size, stride=32),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'border'),
    ),
]
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        dataset=dict(filter_cfg=None),  # images without objects are used
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
