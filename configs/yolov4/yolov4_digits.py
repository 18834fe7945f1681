# YOLOv4 on digits: the network, anchors, data and schedule of configs/yolov3/yolov3_digits.py with
# YOLOv4's box loss, grid sensitivity and several anchors per object. The ablation of the box loss:
# --cfg-options model.bbox_head.criterion.box=iou (giou, diou, ciou).
_base_ = '../yolov3/yolov3_digits.py'

model = dict(
    bbox_head=dict(
        predictor=dict(type='YOLOV4Predictor'),
        encoder=dict(
            type='YOLOV4TargetEncoder',
            scale_xy=(1.2, 1.1),
            iou_threshold=0.4,  # digits have similar sizes, so 0.213 would match every anchor
        ),
        # The exact gradient of CIoU. The weight 4 gives the box term the size of the others. 0.07
        # belongs to darknet's direction, which has no factors of grid and sigmoid.
        criterion=dict(
            type='YOLOV4Loss', box='ciou', gradient='autograd', iou_normalizer=4.0, max_delta=None
        ),
    ),
    test_cfg=dict(
        nms=dict(_delete_=True, type='darknet_nms', iou_threshold=0.45, kind='diou', beta=0.6)
    ),
)
