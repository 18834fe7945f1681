# MMDetection's CenterNetHead on digits, with the network, data and schedule of
# configs/centernet_points/centernet_points_digits.py for comparison.
_base_ = '../centernet_points/centernet_points_digits.py'

model = dict(
    type='CenterNet',
    bbox_head=dict(
        _delete_=True,
        type='CenterNetHead',
        num_classes=_base_.num_classes,
        in_channels=48,
        feat_channels=48,
        loss_center_heatmap=dict(type='GaussianFocalLoss', loss_weight=1.0),
        loss_wh=dict(type='L1Loss', loss_weight=0.4),  # as in our config
        loss_offset=dict(type='L1Loss', loss_weight=1.0),
    ),
    test_cfg=dict(topk=100, local_maximum_kernel=3),
)

val_dataloader = dict(dataset=dict(pipeline=_base_.bordered_test_pipeline))
test_dataloader = val_dataloader

custom_hooks = []  # no channels last: decoding needs the contiguous layout
