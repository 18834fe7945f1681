# MMDetection's SSDHead on digits, with the network, priors, data and schedule of
# configs/ssd/ssd_digits.py for comparison.
_base_ = '../ssd/ssd_digits.py'

model = dict(
    bbox_head=dict(
        _delete_=True,
        type='SSDHead',
        num_classes=_base_.num_classes,
        in_channels=(64, 64),
        anchor_generator=dict(
            type='SSDAnchorGenerator',
            scale_major=False,
            input_size=160,
            strides=[8, 16],
            ratios=_base_.aspect_ratios,
            min_sizes=_base_.min_sizes,
            max_sizes=_base_.max_sizes,
        ),
        bbox_coder=dict(
            type='DeltaXYWHBBoxCoder',
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[0.1, 0.1, 0.2, 0.2],
        ),
    ),
    train_cfg=dict(
        assigner=dict(
            type='MaxIoUAssigner',
            pos_iou_thr=0.5,
            neg_iou_thr=0.5,
            min_pos_iou=0.0,
            ignore_iof_thr=-1,
            gt_max_assign_all=False,
        ),
        sampler=dict(type='PseudoSampler'),
        smoothl1_beta=1.0,
        allowed_border=-1,
        pos_weight=-1,
        neg_pos_ratio=3,
        debug=False,
    ),
    test_cfg=dict(nms_pre=1000, min_bbox_size=0),
)
