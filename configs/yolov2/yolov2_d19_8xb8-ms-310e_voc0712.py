# YOLOv2, Darknet-19, PASCAL VOC 2007 + 2012, trained at 320 to 608, tested at 416.
# Target: 76.8 mAP on VOC 2007 test at 416 (abstract of the paper).
_base_ = [
    '../_base_/models/yolov2_d19.py',
    '../_base_/datasets/voc_mix.py',
    '../_base_/schedules/darknet_500k.py',
]

load_from = 'checkpoints/darknet19_448.conv.pth'  # README: how to get it

train_dataloader = dict(
    batch_size=8,
    batch_sampler=_base_.drawn_sizes,
    dataset=dict(pipeline=_base_.yolov2_train_pipeline),
)
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=_base_.yolov2_test_pipeline))
test_dataloader = val_dataloader

# 80,200 updates of 64 images
train_cfg = dict(max_iters=80_200, val_interval=5_000)
param_scheduler = [
    dict(type='DarknetLR', burn_in=1000, power=4, steps=[40_000, 60_000], scales=[0.1, 0.1])
]
default_hooks = dict(checkpoint=dict(interval=5_000))
