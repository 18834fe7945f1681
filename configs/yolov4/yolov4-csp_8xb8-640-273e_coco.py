# YOLOv4-csp in darknet's layout and with darknet's loss, COCO, mosaic, tested at 640.
# The same network with the loss of the PyTorch code is in configs/scaled_yolov4.
# Target: 48.7 AP (67.4 AP50) on test-dev at 640 (darknet's README).
_base_ = ['../_base_/datasets/coco_mix.py', '../_base_/schedules/darknet_500k.py']

num_classes = 80
size = 640
norm_cfg = dict(type='BN', eps=1e-5, momentum=0.01)  # darknet's

model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[0, 0, 0],
        std=[255, 255, 255],
        bgr_to_rgb=True,
        pad_size_divisor=32,
        pad_value=0.5,  # letterbox; the padding is added after the normalisation
    ),
    backbone=dict(type='DarknetCSP', arch='csp', out_indices=(3, 4, 5), norm_cfg=norm_cfg),
    neck=dict(
        type='ScaledYOLOV4Neck',
        in_channels=(256, 512, 1024),
        out_channels=(128, 256, 512),
        blocks=2,
        pyramid_pairs=1,
        norm_cfg=norm_cfg,
    ),
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='ScaledYOLOV4Predictor',
            num_classes=num_classes,
            in_channels=(128, 256, 512),
            num_anchors=3,
            norm_cfg=norm_cfg,
        ),
        encoder=dict(
            type='YOLOV4TargetEncoder',
            num_classes=num_classes,
            code='alexeyab',
            max_objects=200,
            anchors=[  # fine to coarse
                [(12, 16), (19, 36), (40, 28)],
                [(36, 75), (76, 55), (72, 146)],
                [(142, 110), (192, 243), (459, 401)],
            ],
            scale_xy=2.0,
            squared=True,
            iou_threshold=0.2,
        ),
        criterion=dict(
            type='YOLOV4Loss',
            code='alexeyab',
            box='ciou',
            gradient='darknet',
            iou_normalizer=0.05,
            obj_normalizer=(4.0, 1.0, 0.4),
            cls_normalizer=0.5,
            objectness_smooth=(False, True, True),
            ignore_threshold=0.7,
            max_delta=(5.0, 5.0, 2.0),
            normalizer='images',
        ),
    ),
    test_cfg=dict(  # darknet's `diounms`
        nms=dict(type='darknet_nms', iou_threshold=0.45, kind='diou', beta=0.6),
        score_thr=0.005,
        max_per_img=100,
        clip=True,
    ),
)

train_pipeline = [
    dict(type='Mosaic', img_scale=(size, size), pad_val=114.0),
    dict(
        type='RandomAffine',  # from the double size of the mosaic to the input size
        max_rotate_degree=0.0,
        max_shear_degree=0.0,
        scaling_ratio_range=(0.5, 1.5),
        border=(-size // 2, -size // 2),
        border_val=(114, 114, 114),
    ),
    dict(type='YOLOXHSVRandomAug'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=True),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(size, size), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_iters=500_500)
optim_wrapper = dict(optimizer=dict(lr=1e-3, momentum=0.949))
custom_hooks = [dict(type='DarknetEMAHook', alpha=0.9998, apply_before_end=1000, priority=49)]
