# MMDetection's CenterNetHead on blood cells, for comparison with centernet_points_bccd.py:
# the same network, data and schedule.
_base_ = './centernet_points_bccd.py'

model = dict(
    type='CenterNet',
    bbox_head=dict(
        _delete_=True,
        type='CenterNetHead',
        num_classes=_base_.num_classes,
        in_channels=48,
        feat_channels=48,
        loss_center_heatmap=dict(type='GaussianFocalLoss', loss_weight=1.0),
        loss_wh=dict(type='L1Loss', loss_weight=0.2),  # as in our config
        loss_offset=dict(type='L1Loss', loss_weight=1.0),
    ),
    test_cfg=dict(topk=100, local_maximum_kernel=3),
)

bordered = dict(dataset=dict(pipeline=_base_.bordered_test_pipeline))
val_dataloader = bordered
test_dataloader = bordered

custom_hooks = []  # no channels last: decoding needs the contiguous layout
