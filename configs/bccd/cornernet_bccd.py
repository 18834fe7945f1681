# CornerNet on blood cells: the network of cornernet_digits.py, its head as wide as MMDetection's.
_base_ = [
    '../_base_/models/csp_topdown_digits.py',
    '../_base_/datasets/bccd.py',
    '../_base_/digits.py',
]

num_classes = 3

model = dict(
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='CornerNetPredictor',
            in_channels=48,
            num_classes=num_classes,
        ),
        encoder=dict(
            type='CornerNetTargetEncoder',
            num_classes=num_classes,
            max_objects=32,
            topk=50,
            ae_threshold=1.0,
        ),
        criterion=dict(
            type='CornerNetLoss',
            loss_heatmap=dict(type='PenaltyReducedFocalLoss', alpha=2.0, beta=4.0, loss_weight=1.0),
            # MMDetection divides the other terms by 2 instead
            loss_embedding=dict(type='PullPushLoss', pull_weight=0.2, push_weight=0.2),
            loss_offset=dict(type='MaskedSmoothL1Loss', loss_weight=1.0),
        ),
    ),
    test_cfg=dict(
        score_thr=0.01,
        nms=dict(type='soft_nms', iou_threshold=0.5, method='gaussian'),
        max_per_img=100,
    ),
)
