# The official multi-scale test (tools/test.py --tta): five scales, each with its mirror image, and
# soft-NMS over all detections. These lines also work with the other configs of this folder.
# Target: 41.7 AP on val2017. Source: the official model zoo, ctdet_coco_dla_2x.
_base_ = './centernet_points_dla34_8xb16-230e_coco.py'

scales = (0.5, 0.75, 1.0, 1.25, 1.5)
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='CenterAffine', mode='keep', pad=31, scale=each) for each in scales],
            _base_.flips,
            [dict(type='LoadAnnotations', with_bbox=True)],
            [dict(type='PackDetInputs', meta_keys=_base_.meta_keys)],
        ],
    ),
]
tta_model = dict(
    tta_cfg=dict(score_thr=0.0, nms=dict(type='official_soft_nms', sigma=0.5, max_num=100))
)
