# YOLOv3, Darknet-53, PASCAL VOC 2007 + 2012, trained at 320 to 608, tested at 416.
# Schedule and ignore threshold of yolov3-voc.cfg; no official AP was found.
_base_ = [
    '../_base_/models/yolov3_d53.py',
    '../_base_/datasets/voc_mix.py',
    '../_base_/schedules/darknet_500k.py',
]

num_classes = 20

model = dict(
    bbox_head=dict(
        predictor=dict(num_classes=num_classes),
        encoder=dict(num_classes=num_classes),
        criterion=dict(ignore_threshold=0.5),
    ),
)

test_pipeline = _base_.yolov3_test_pipeline
test_pipeline[1].size = (416, 416)
train_dataloader = dict(
    batch_size=8,
    batch_sampler=_base_.drawn_sizes,
    dataset=dict(pipeline=_base_.yolov3_train_pipeline),
)
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

# 50,200 updates of 64 images
train_cfg = dict(max_iters=50_200, val_interval=5_000)
param_scheduler = [
    dict(type='DarknetLR', burn_in=1000, power=4, steps=[40_000, 45_000], scales=[0.1, 0.1])
]
default_hooks = dict(checkpoint=dict(interval=5_000))
