# CenterTrack, DLA-34, trained on all training videos of MOT17 from ImageNet weights, tested with
# the public detections of MOT Challenge.
# Target: MOTA 61.4 on the test videos, public detection, 544 x 960, no flip; source: the official
# model zoo, mot17_fulltrain_sc.
_base_ = './centertrack_dla34_2xb16-70e_mot17.py'

load_from = None
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained', checkpoint='checkpoints/dla34_imagenet.pth', prefix='backbone.'
        )
    )
)

test_pipeline = [
    *_base_.test_pipeline[:-1],
    dict(type='LoadPublicDetections'),
    _base_.test_pipeline[-1],
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
