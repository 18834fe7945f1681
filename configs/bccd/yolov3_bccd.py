# YOLOv3 on blood cells: the network of yolov3_digits.py with a third, coarser map.
_base_ = ['../_base_/models/csp_fpn_digits.py', '../_base_/datasets/bccd.py', '../_base_/digits.py']

num_classes = 3
anchors = [[(15, 15)], [(41, 41)], [(75, 75)]]  # platelets, red and white cells

model = dict(
    neck=dict(num_outs=3),
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='YOLOV3Predictor',
            num_classes=num_classes,
            in_channels=(64, 64, 64),
            num_anchors=1,
            strides=(8, 16, 32),
        ),
        encoder=dict(
            type='YOLOV3TargetEncoder',
            num_classes=num_classes,
            anchors=anchors,
            topk=1000,  # as MMDetection's nms_pre
        ),
        criterion=dict(type='YOLOV3Loss', box='mse', iou_normalizer=2.0, normalizer='images'),
    ),
    test_cfg=dict(
        nms=dict(type='nms', iou_threshold=0.45), score_thr=0.005, max_per_img=100, clip=True
    ),
)
