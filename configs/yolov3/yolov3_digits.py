# YOLOv3 on digits: minutes on two CPU cores. Maps run fine to coarse, as the neck returns them.
_base_ = [
    '../_base_/models/csp_fpn_digits.py',
    '../_base_/datasets/digits.py',
    '../_base_/digits.py',
]

num_classes = 10
# One anchor per cell: each has a classifier of its own, so several would learn more slowly.
anchors = [[(22, 34)], [(36, 55)]]  # tools/anchors.py --levels 2 --per-level 1

model = dict(
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='YOLOV3Predictor',
            num_classes=num_classes,
            in_channels=(64, 64),
            num_anchors=1,
            strides=(8, 16),
        ),
        encoder=dict(
            type='YOLOV3TargetEncoder',
            num_classes=num_classes,
            anchors=anchors,
            iou_threshold=0.5,  # beside the best, as MMDetection: more positives to learn from
            topk=1000,  # as MMDetection's nms_pre: quick before anything is learned
        ),
        criterion=dict(type='YOLOV3Loss', box='mse', iou_normalizer=2.0, normalizer='images'),
    ),
    test_cfg=dict(
        nms=dict(type='nms', iou_threshold=0.45), score_thr=0.005, max_per_img=100, clip=True
    ),
)
