# The same from ImageNet weights (mot17_fulltrain_sc). No target: the published MOTA of 61.4 uses
# public detections, which this package does not have.
_base_ = './centertrack_dla34_2xb16-70e_mot17.py'

load_from = None
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained', checkpoint='checkpoints/dla34_imagenet.pth', prefix='backbone.'
        )
    )
)
