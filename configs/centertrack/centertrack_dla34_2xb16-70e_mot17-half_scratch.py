# The same from ImageNet weights. Target: MOTA 60.7, mot17_half_sc.
_base_ = './centertrack_dla34_2xb16-70e_mot17-half.py'

load_from = None
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained', checkpoint='checkpoints/dla34_imagenet.pth', prefix='backbone.'
        )
    )
)
