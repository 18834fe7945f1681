# YOLOv2-tiny, COCO, trained at 320 to 608, tested at 416: yolov2-tiny.cfg of Redmon's darknet.
# Target: 23.7 AP50 on COCO test-dev at 416 (darknet's page).
_base_ = [
    '../_base_/models/yolov2_tiny_416.py',
    '../_base_/datasets/coco_mix.py',
    '../_base_/schedules/darknet_500k.py',
]

num_classes = 80
# the official values are in cells; these are pixels of a 416 x 416 image
anchors = [
    [
        (18.3274, 21.6763),
        (59.9827, 66.001),
        (106.8298, 175.1789),
        (252.2502, 112.889),
        (312.6566, 293.385),
    ]
]
layers = [
    *_base_.tiny_trunk,
    dict(type='convolutional', filters=512, size=3, batch_normalize=True, activation='leaky'),
    dict(type='convolutional', filters=425, size=1, activation='linear'),
    dict(type='region', anchors=5),
]

model = dict(
    backbone=dict(layers=layers, num_classes=num_classes),
    bbox_head=dict(
        predictor=dict(num_classes=num_classes),
        encoder=dict(num_classes=num_classes, anchors=anchors),
        criterion=dict(rescore=False),
    ),
)

train_pipeline = _base_.yolov2_train_pipeline
train_pipeline[0].jitter = 0.2
train_dataloader = dict(
    batch_size=8,
    batch_sampler=_base_.drawn_sizes,
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=_base_.yolov2_test_pipeline))
test_dataloader = val_dataloader
