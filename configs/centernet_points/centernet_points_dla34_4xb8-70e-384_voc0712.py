# CenterNet (objects as points), DLA-34 with deformable up-sampling, VOC 07+12, 384 x 384.
# Target: 79.3 mAP on the test set of 2007, flip test (--tta); noise up to 1. Source: the official
# model zoo, ctdet_pascal_dla_384; it starts from ImageNet weights, see README.
_base_ = [
    '../_base_/models/centernet_points_dla34_voc.py',
    '../_base_/datasets/voc_points.py',
    '../_base_/schedules/adam_70e.py',
    '../_base_/center_runtime.py',
]

train_dataloader = dict(batch_size=8)

auto_scale_lr = dict(enable=False, base_batch_size=32)
# batch_sampler of 1 GPU (README: batch norm)
official_split = dict(type='SplitBatchSampler', sizes=(32,))
