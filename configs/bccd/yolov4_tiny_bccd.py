# Official YOLOv4-tiny, fine-tuned on blood cells: minutes on two CPU cores. See
# docs/finetune_darknet.md for the file of `load_from`.
_base_ = [
    '../_base_/models/yolov4_tiny_few_images.py',
    '../_base_/datasets/bccd.py',
    '../_base_/digits.py',
]

num_classes = 3
size = (320, 256)  # (w, h)
# three sizes of cells around the median ones, for an input of this size
anchors = [  # coarse to fine
    [(72, 76), (92, 98), (124, 124)],
    [(18, 19), (40, 42), (54, 57)],
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
train_dataloader = dict(dataset=dict(times=5, dataset=dict(pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

max_epochs = 2  # 10 passes over the 205 images
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs, dynamic_intervals=None)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
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
