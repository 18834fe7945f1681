# YOLOv4-tiny, COCO, trained and tested at 416: yolov4-tiny.cfg of AlexeyAB's darknet.
# Target: 40.2 AP50 on test-dev at 416 (darknet's README).
_base_ = [
    '../_base_/models/yolov4_tiny_416.py',
    '../_base_/datasets/coco_mix.py',
    '../_base_/schedules/darknet_500k.py',
]

size = 416

train_pipeline = [
    dict(
        type='DarknetJitter',
        size=(size, size),
        jitter=0.3,
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
    dict(type='DarknetResize', size=(size, size)),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    batch_size=8,
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_iters=500_200)
optim_wrapper = dict(optimizer=dict(lr=2.61e-3))
