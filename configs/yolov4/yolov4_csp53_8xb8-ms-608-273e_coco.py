# YOLOv4, CSPDarknet-53, COCO, mosaic, trained at 480 to 896, tested at 608.
# Target: 43.5 AP (65.7 AP50) on test-dev at 608 (darknet's README).
_base_ = ['../_base_/datasets/coco_mix.py', '../_base_/schedules/darknet_500k.py']

load_from = 'checkpoints/csdarknet53-omega.conv.pth'  # README: how to get it

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
    backbone=dict(type='DarknetCSP', arch='v4', out_indices=(3, 4, 5), norm_cfg=norm_cfg),
    neck=dict(
        type='YOLOV4Neck',
        in_channels=(256, 512, 1024),
        out_channels=(128, 256, 512),
        norm_cfg=norm_cfg,
    ),
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='YOLOV4Predictor',
            num_classes=num_classes,
            in_channels=(128, 256, 512),
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
            scale_xy=(1.2, 1.1, 1.05),
            iou_threshold=0.213,
        ),
        criterion=dict(
            type='YOLOV4Loss',
            code='alexeyab',
            box='ciou',
            gradient='darknet',
            iou_normalizer=0.07,
            ignore_threshold=0.7,
            max_delta=5.0,
            normalizer='images',
        ),
    ),
    # `detector valid` when YOLOv4 was published; `greedynms` is DIoU-NMS; every box counts
    test_cfg=dict(
        nms=dict(type='darknet_nms', iou_threshold=0.45, kind='diou', beta=0.6),
        score_thr=0.001,
        clip=True,
    ),
)

train_pipeline = [
    dict(
        type='DarknetMosaic',
        size=(size, size),
        jitter=0.3,
        hue=0.1,
        saturation=1.5,
        exposure=1.5,
        max_objects=200,
    ),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='DarknetResize', size=(size, size)),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    batch_size=8,
    batch_sampler=dict(  # another size every 10 iterations
        type='DrawnSizeBatchSampler', code='alexeyab', size=size, interval=10
    ),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_iters=500_500)
optim_wrapper = dict(optimizer=dict(lr=1.3e-3, momentum=0.949))
