# CornerNet-Squeeze on digits: fire modules, maps of stride 8; minutes on two CPU cores.
_base_ = '../cornernet/cornernet_digits.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='SqueezeHourglassNet',
        num_stacks=1,
        stage_channels=(64, 96, 128),
        stage_blocks=(2, 2, 2),
        feat_channels=64,
    ),
    neck=None,
    bbox_head=dict(
        predictor=dict(in_channels=64, channels=64, pool_channels=48, branch_kernel=1),
        encoder=dict(topk=20, num_dets=100, ae_threshold=0.5),
    ),
    test_cfg=dict(nms=dict(method='linear')),
)
