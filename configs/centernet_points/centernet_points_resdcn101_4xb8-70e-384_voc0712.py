# CenterNet (objects as points), ResNet-101 with deformable up-convolutions, VOC 07+12, 384 x 384.
# Target: 77.1 mAP on the test set of 2007, flip test (--tta); noise up to 1. Source: the official
# model zoo, ctdet_pascal_resdcn101_384.
_base_ = './centernet_points_resdcn18_4xb8-70e-384_voc0712.py'

model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(checkpoint='https://download.pytorch.org/models/resnet101-63fe2227.pth'),
    ),
    neck=dict(in_channels=2048),
)
# batch_sampler of 2 GPUs (README: batch norm)
official_split = dict(type='SplitBatchSampler', sizes=(16, 16))
