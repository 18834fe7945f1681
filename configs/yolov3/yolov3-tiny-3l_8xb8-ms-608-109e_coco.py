# YOLOv3-tiny with a third map, COCO, trained at 480 to 896, tested at 608: yolov3-tiny_3l.cfg of
# AlexeyAB's darknet with its rules, and the 80 classes of COCO instead of its 2.
# No target: no AP is published.
_base_ = './yolov3-tiny_8xb8-ms-416-273e_coco.py'

size = 608
anchors = [  # coarse to fine
    [(91, 162), (158, 205), (250, 332)],
    [(25, 42), (41, 67), (75, 94)],
    [(4, 7), (7, 15), (13, 25)],
]

layers = [
    *_base_.layers,
    dict(type='route', layers=[21]),
    dict(type='convolutional', filters=128, size=1, batch_normalize=True, activation='leaky'),
    dict(type='upsample', stride=2),
    dict(type='route', layers=[26, 6]),
    dict(type='convolutional', filters=128, size=3, batch_normalize=True, activation='leaky'),
    dict(type='convolutional', filters=255, size=1, activation='linear'),
    dict(type='yolo', anchors=3),
]

model = dict(
    backbone=dict(layers=layers, size=(size, size)),
    bbox_head=dict(
        encoder=dict(anchors=anchors, code='alexeyab', max_objects=200),
        criterion=dict(code='alexeyab'),
    ),
)

train_pipeline = [
    dict(
        type='DarknetJitter',
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
    batch_sampler=dict(code='alexeyab', size=size), dataset=dict(pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_iters=200_000)
param_scheduler = [
    dict(type='DarknetLR', burn_in=1000, power=4, steps=[180_000, 190_000], scales=[0.1, 0.1])
]
