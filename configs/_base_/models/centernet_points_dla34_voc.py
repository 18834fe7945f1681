# CenterNet (objects as points) on DLA-34 for VOC; it starts from ImageNet weights.
_base_ = './centernet_points_resdcn18_voc.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='DLANet',
        init_cfg=dict(
            type='Pretrained', checkpoint='checkpoints/dla34_imagenet.pth', prefix='backbone.'
        ),
    ),
    neck=dict(_delete_=True, type='DLAUpNeck', in_channels=(64, 128, 256, 512), conv='dcn'),
    bbox_head=dict(predictor=dict(channels=256, weight_std=None)),
)
