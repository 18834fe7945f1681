# RetinaNet on digits: minutes on two CPU cores. Digits are about 1.6 times as high as wide.
_base_ = [
    '../_base_/models/csp_fpn_digits.py',
    '../_base_/datasets/digits.py',
    '../_base_/digits.py',
]

num_classes = 10
octave_base_scale = 2.5
ratios = (1.6,)

model = dict(
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
            strides=(8, 16),
            octave_base_scale=octave_base_scale,
            ratios=ratios,
        ),
        criterion=dict(
            type='RetinaNetLoss',
            loss_cls=dict(type='SigmoidFocalLoss', alpha=0.25, gamma=2.0),
            loss_box=dict(type='MaskedL1Loss'),
            normalizer='positives_and_empty_images',
        ),
    ),
    test_cfg=dict(
        clip=True, nms=dict(type='nms', iou_threshold=0.5), score_thr=0.01, max_per_img=100
    ),
)
