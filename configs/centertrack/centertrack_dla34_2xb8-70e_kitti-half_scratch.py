# The same from ImageNet weights. Target: MOTA 84.5 of cars, kitti_half_sc.
_base_ = './centertrack_dla34_2xb8-70e_kitti-half.py'

load_from = None
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained', checkpoint='checkpoints/dla34_imagenet.pth', prefix='backbone.'
        )
    )
)
