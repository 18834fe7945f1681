# MMDetection's YOLOV3Head on digits, with the network, data and schedule of
# configs/yolov3/yolov3_digits.py for comparison. Matching, loss weights and thresholds are those of
# MMDetection's recipe.
_base_ = '../yolov3/yolov3_digits.py'

model = dict(
    bbox_head=dict(
        _delete_=True,
        type='YOLOV3Head',
        num_classes=_base_.num_classes,
        in_channels=[64, 64],
        out_channels=[128, 128],
        anchor_generator=dict(
            type='YOLOAnchorGenerator', base_sizes=_base_.anchors, strides=[8, 16]
        ),
        bbox_coder=dict(type='YOLOBBoxCoder'),
        featmap_strides=[8, 16],
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0, reduction='sum'),
        loss_conf=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0, reduction='sum'),
        loss_xy=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=2.0, reduction='sum'),
        loss_wh=dict(type='MSELoss', loss_weight=2.0, reduction='sum'),
    ),
    train_cfg=dict(
        assigner=dict(type='GridAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0)
    ),
    test_cfg=dict(nms_pre=1000, min_bbox_size=0, conf_thr=0.005),
)
