# MMDetection's YOLOV3Head on blood cells, for comparison with yolov3_bccd.py:
# the same network, data and schedule.
_base_ = './yolov3_bccd.py'

model = dict(
    bbox_head=dict(
        _delete_=True,
        type='YOLOV3Head',
        num_classes=_base_.num_classes,
        in_channels=[64, 64, 64],
        out_channels=[128, 128, 128],
        anchor_generator=dict(
            type='YOLOAnchorGenerator', base_sizes=_base_.anchors, strides=[8, 16, 32]
        ),
        bbox_coder=dict(type='YOLOBBoxCoder'),
        featmap_strides=[8, 16, 32],
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
