# YOLOv1, 448 x 448, PASCAL VOC 2007 + 2012.
# Target: 63.4 mAP on VOC 2007 test (the paper's YOLO, quoted in weiliu89/caffe).
# The official cfg: three boxes per cell and a locally connected layer. The paper: two boxes
# (`num_boxes=2`) and `hidden='connected', hidden_channels=4096`.
_base_ = ['../_base_/datasets/voc_mix.py', '../_base_/iteration_runtime.py']

load_from = 'checkpoints/extraction.conv.pth'  # README: how to get it

num_classes = 20
num_boxes = 3
size = 448
norm_cfg = dict(type='BN', eps=1e-5, momentum=0.01)  # darknet's

model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[0, 0, 0],
        std=[255, 255, 255],
        bgr_to_rgb=True,
        pad_size_divisor=64,
    ),
    backbone=dict(type='PlainDarknet', arch='extraction', out_indices=(4,), norm_cfg=norm_cfg),
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='YOLOV1Predictor',
            num_classes=num_classes,
            in_channels=1024,
            feat_size=(7, 7),
            side=7,
            num_boxes=num_boxes,
            hidden='local',
            hidden_channels=256,
            dropout=0.5,
        ),
        encoder=dict(type='YOLOV1TargetEncoder', num_classes=num_classes, num_boxes=num_boxes),
        criterion=dict(
            type='YOLOV1Loss',
            coord_scale=5.0,
            object_scale=1.0,
            no_object_scale=0.5,
            class_scale=1.0,
            normalizer='images',
        ),
    ),
    # `yolo valid` of darknet: every box counts
    test_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), score_thr=0.001, clip=True),
)

train_pipeline = [
    dict(type='RedmonCrop', size=(size, size), jitter=0.2),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RedmonColors', hue=0.1, saturation=1.5, exposure=1.5),
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
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

# 40,000 updates of 64 images
train_cfg = dict(type='IterBasedTrainLoop', max_iters=40_000, val_interval=4_000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=5e-4, momentum=0.9, weight_decay=5e-4),
    paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0),  # darknet decays kernels alone
)
param_scheduler = [
    dict(
        type='DarknetLR',
        steps=[200, 400, 600, 20_000, 30_000],
        scales=[2.5, 2.0, 2.0, 0.1, 0.1],
    )
]
default_hooks = dict(checkpoint=dict(interval=4_000, max_keep_ckpts=3))
auto_scale_lr = dict(enable=False, base_batch_size=64)
