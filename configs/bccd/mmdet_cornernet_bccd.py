# MMDetection's CornerHead on blood cells, for comparison with cornernet_bccd.py:
# the same network, data and schedule.
_base_ = './cornernet_bccd.py'

model = dict(
    type='CornerNet',
    bbox_head=dict(
        _delete_=True,
        type='CornerHead',
        num_classes=_base_.num_classes,
        in_channels=48,
        num_feat_levels=1,
        corner_emb_channels=1,
        loss_heatmap=dict(type='GaussianFocalLoss', alpha=2.0, gamma=4.0, loss_weight=1.0),
        loss_embedding=dict(type='AssociativeEmbeddingLoss', pull_weight=0.1, push_weight=0.1),
        loss_offset=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0),
    ),
    test_cfg=dict(
        corner_topk=50,
        local_maximum_kernel=3,
        distance_threshold=1.0,  # as in our config
        score_thr=0.01,
        max_per_img=100,
        nms=dict(type='soft_nms', iou_threshold=0.5, method='gaussian'),
    ),
)

bordered = dict(dataset=dict(pipeline=_base_.bordered_test_pipeline))
val_dataloader = bordered
test_dataloader = bordered

custom_hooks = []  # no channels last: decoding needs the contiguous layout
