# MMDetection's CornerHead on digits, with the backbone, neck, data and schedule of
# configs/cornernet/cornernet_digits.py for comparison. CornerHead has fixed widths (128 in its
# pools, 256 in its branches), wider than our small head; cornernet_wide_digits.py has the same.
_base_ = '../cornernet/cornernet_digits.py'

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

val_dataloader = dict(dataset=dict(pipeline=_base_.bordered_test_pipeline))
test_dataloader = val_dataloader

custom_hooks = []  # no channels last: decoding needs the contiguous layout
