# RetinaNet on blood cells: the network of retinanet_digits.py with a third, coarser map.
_base_ = ['../_base_/models/csp_fpn_digits.py', '../_base_/datasets/bccd.py', '../_base_/digits.py']

num_classes = 3
octave_base_scale = 2.0  # squares of 16 to 25, 32 to 51 and 64 to 102 pixels
ratios = (1.0,)

model = dict(
    neck=dict(num_outs=3),
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(
            type='RetinaNetPredictor',
            num_classes=num_classes,
            in_channels=64,
            num_anchors=3,
            feat_channels=64,
            stacked_convs=2,
        ),
        encoder=dict(
            type='RetinaNetTargetEncoder',
            num_classes=num_classes,
            strides=(8, 16, 32),
            octave_base_scale=octave_base_scale,
            ratios=ratios,
        ),
        criterion=dict(type='RetinaNetLoss'),
    ),
    test_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), score_thr=0.01, max_per_img=100),
)
