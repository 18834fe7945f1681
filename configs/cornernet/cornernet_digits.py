# CornerNet on digits: minutes on two CPU cores.
_base_ = [
    '../_base_/models/csp_topdown_digits.py',
    '../_base_/datasets/digits.py',
    '../_base_/digits.py',
]

num_classes = 10

model = dict(
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='CornerNetPredictor',
            in_channels=48,
            num_classes=num_classes,
            channels=48,
            pool_channels=32,
        ),
        encoder=dict(
            type='CornerNetTargetEncoder',
            num_classes=num_classes,
            max_objects=32,
            topk=50,
            # the push distance of the training; after a few epochs, the embeddings of one
            # object still differ by 0.5, the threshold of the paper
            ae_threshold=1.0,
        ),
        criterion=dict(
            type='CornerNetLoss',
            loss_heatmap=dict(type='PenaltyReducedFocalLoss', alpha=2.0, beta=4.0, loss_weight=1.0),
            loss_embedding=dict(type='PullPushLoss', pull_weight=0.1, push_weight=0.1),
            loss_offset=dict(type='MaskedSmoothL1Loss', loss_weight=1.0),
        ),
    ),
    test_cfg=dict(
        score_thr=0.01,
        nms=dict(type='soft_nms', iou_threshold=0.5, method='gaussian'),
        max_per_img=100,
    ),
)
