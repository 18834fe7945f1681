# YOLOv4-csp in darknet's layout and with darknet's loss, COCO, mosaic, trained at 512 (the size of
# yolov4-csp.cfg), tested at 640. The same network with the training of the PyTorch code, to which
# the published results belong, is in configs/scaled_yolov4.
# No training target: the cfg has mosaic and letter box, and darknet stops at this combination. Here
# the training has mosaic and the test a letter box. The official weights have 48.7 AP (67.4 AP50)
# on test-dev at 640 (darknet's README).
_base_ = ['../_base_/datasets/coco_mix.py', '../_base_/schedules/darknet_500k.py']

num_classes = 80
train_size = 512
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
    # `detector valid` of darknet with `diounms`; every box counts
    test_cfg=dict(
        nms=dict(type='darknet_nms', iou_threshold=0.6, kind='diou', beta=0.6),
        score_thr=0.001,
        clip=True,
    ),
)

train_pipeline = [
    dict(
        type='DarknetMosaic',
        size=(train_size, train_size),
        jitter=0.1,
        resize=1.5,
        hue=0.1,
        saturation=1.5,
        exposure=1.5,
        max_objects=200,
    ),
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
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_iters=500_500)
optim_wrapper = dict(optimizer=dict(lr=1e-3, momentum=0.949))
custom_hooks = [dict(type='DarknetEMAHook', alpha=0.9998, apply_before_end=1000, priority=49)]
