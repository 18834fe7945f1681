# CenterNet (objects as points) on blood cells, from a MobileNetV2 with ImageNet weights:
# docs/own_data.md.
_base_ = '../bccd/centernet_points_bccd.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        out_indices=(1, 2, 4, 7),  # strides 4, 8, 16, 32
        frozen_stages=2,
        norm_eval=True,  # batches of 8 are too small for the statistics of BN
        init_cfg=dict(
            type='Pretrained', checkpoint='checkpoints/mobilenet_v2.pth', prefix='backbone.'
        ),
    ),
    neck=dict(in_channels=[24, 32, 96, 1280]),
)
