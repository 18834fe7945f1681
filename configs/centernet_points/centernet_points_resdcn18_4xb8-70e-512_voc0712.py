# CenterNet (objects as points), ResNet-18 with deformable up-convolutions, VOC 07+12, 512 x 512.
# Target: 75.7 mAP on the test set of 2007, flip test (--tta); noise up to 1. Source: the official
# model zoo, ctdet_pascal_resdcn18_512.
_base_ = [
    '../_base_/models/centernet_points_resdcn18_voc.py',
    '../_base_/datasets/voc_points_512.py',
    '../_base_/schedules/adam_70e.py',
    '../_base_/center_runtime.py',
]

train_dataloader = dict(batch_size=8)

auto_scale_lr = dict(enable=False, base_batch_size=32)
# batch_sampler of 1 GPU (README: batch norm)
official_split = dict(type='SplitBatchSampler', sizes=(32,))
