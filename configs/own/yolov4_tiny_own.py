# Official YOLOv4-tiny for your classes. tools/new_project.py writes a config that inherits it.
_base_ = [
    '../_base_/models/yolov4_tiny_few_images.py',
    '../_base_/datasets/own.py',
    '../_base_/own.py',
]

num_classes = 1
size = (320, 320)  # (w, h)
anchors = [  # coarse to fine; those of COCO for an input of this size
    [(62, 63), (104, 130), (265, 245)],
    [(8, 11), (18, 21), (28, 45)],
]

load_from = 'checkpoints/yolov4-tiny.pth'

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
    # moved borders, horizontal flips and colours
    dict(type='DarknetJitter', size=size, jitter=0.2),
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
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
