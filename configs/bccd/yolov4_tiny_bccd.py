# Official YOLOv4-tiny, fine-tuned on blood cells: minutes on two CPU cores. See
# docs/finetune_darknet.md for the file of `load_from`.
_base_ = [
    '../_base_/models/yolov4_tiny_few_images.py',
    '../_base_/datasets/bccd.py',
    '../_base_/digits.py',
]

num_classes = 3
size = (384, 288)  # (w, h)
# three sizes of cells around the median ones, for an input of this size
anchors = [  # coarse to fine
    [(86, 86), (110, 110), (149, 140)],
    [(22, 21), (48, 47), (65, 64)],
]

load_from = 'work_dirs/official/yolov4-tiny.pth'

model = dict(
    backbone=dict(
        num_classes=num_classes,  # new class rows in the last convolutions, the rest is official
        frozen_stages=10,  # the first ten layers of the cfg are not trained
        size=size[::-1],
    ),
    bbox_head=dict(
        predictor=dict(num_classes=num_classes),
        encoder=dict(num_classes=num_classes, anchors=anchors),
    ),
    # averages the boxes of one object, so they are more precise
    test_cfg=dict(nms=dict(vote=0.65)),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=size, keep_ratio=False),
    # blood smears have no orientation
    dict(type='RandomFlip', prob=0.75, direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='DarknetResize', size=size),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
# tools/test.py --tta: all four flips
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='DarknetResize', size=size)],
            [
                dict(type='RandomFlip', prob=0.0),
                dict(type='RandomFlip', prob=1.0, direction='horizontal'),
                dict(type='RandomFlip', prob=1.0, direction='vertical'),
                dict(type='RandomFlip', prob=1.0, direction='diagonal'),
            ],
            [dict(type='LoadAnnotations', with_bbox=True)],
            [
                dict(
                    type='PackDetInputs',
                    meta_keys=(
                        'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip',
                        'flip_direction',
                    ),
                )
            ],
        ],
    ),
]  # fmt: skip
tta_model = dict(
    type='AveragedBoxesTTAModel',
    tta_cfg=dict(iou_threshold=0.6, score_thr=0.001, max_per_img=100),
)

train_dataloader = dict(batch_size=4, dataset=dict(times=4, dataset=dict(pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

max_epochs = 2  # 8 passes over the 205 images
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs, dynamic_intervals=None)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        begin=0,
        end=max_epochs,
        T_max=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
