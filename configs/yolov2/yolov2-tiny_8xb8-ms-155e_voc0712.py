# YOLOv2-tiny, PASCAL VOC 2007 + 2012, trained at 320 to 608, tested at 416: yolov2-tiny-voc.cfg of
# Redmon's darknet.
# Target: 57.1 mAP on VOC 2007 test at 416 (darknet's page).
_base_ = [
    '../_base_/models/yolov2_tiny_416.py',
    '../_base_/datasets/voc_mix.py',
    '../_base_/schedules/darknet_500k.py',
]

# the official values are in cells; these are pixels of a 416 x 416 image
anchors = [
    [
        (34.56, 38.08),
        (109.44, 141.12),
        (212.16, 364.16),
        (301.44, 163.52),
        (531.84, 336.64),
    ]
]
layers = [
    *_base_.tiny_trunk,
    dict(type='convolutional', filters=1024, size=3, batch_normalize=True, activation='leaky'),
    dict(type='convolutional', filters=125, size=1, activation='linear'),
    dict(type='region', anchors=5),
]

model = dict(
    backbone=dict(layers=layers),
    bbox_head=dict(encoder=dict(anchors=anchors), criterion=dict(rescore=True)),
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

# 40,200 updates of 64 images; the first 100 have a tenth of the rate instead of a burn-in
train_cfg = dict(max_iters=40_200, val_interval=5_000)
param_scheduler = [
    dict(
        type='DarknetLR',
        steps=[-1, 100, 20_000, 30_000],
        scales=[0.1, 10, 0.1, 0.1],
    )
]
default_hooks = dict(checkpoint=dict(interval=5_000))
