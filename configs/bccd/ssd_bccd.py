# SSD on blood cells: the network of ssd_digits.py with a third, coarser map for white cells.
_base_ = ['../_base_/models/csp_fpn_digits.py', '../_base_/datasets/bccd.py', '../_base_/digits.py']

num_classes = 3
# platelets are about 15 pixels wide, red cells 41, white cells 75
min_sizes = (14, 36, 64)
max_sizes = (36, 64, 100)
aspect_ratios = ((1.5,), (1.5,), (1.5,))

model = dict(
    neck=dict(num_outs=3),
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='SSDPredictor',
            num_classes=num_classes,
            in_channels=(64, 64, 64),
            num_anchors=(4, 4, 4),
        ),
        encoder=dict(
            type='SSDTargetEncoder',
            num_classes=num_classes,
            min_sizes=min_sizes,
            max_sizes=max_sizes,
            strides=(8, 16, 32),
            aspect_ratios=aspect_ratios,
        ),
        criterion=dict(type='SSDLoss'),
    ),
    test_cfg=dict(
        nms=dict(type='nms', iou_threshold=0.45), score_thr=0.01, max_per_img=100, clip=True
    ),
)
