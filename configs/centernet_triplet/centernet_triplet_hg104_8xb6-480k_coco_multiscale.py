# CenterNet triplets' multi-scale test (tools/test.py --tta): five scales, each with its mirror
# image, and boxes merged in NMS. The centres are those of scale 1.
# Target: 47.0 AP (64.5 AP50) on test-dev. Source: table 1 of the official repository.
_base_ = './centernet_triplet_hg104_8xb6-480k_coco.py'

scales = (0.6, 1.0, 1.2, 1.5, 1.8)
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='CornerCanvas', scale=each, pad=127) for each in scales],
            _base_.flips,
            [dict(type='LoadAnnotations', with_bbox=True)],
            [dict(type='PackDetInputs', meta_keys=_base_.meta_keys)],
        ],
    ),
]
tta_model = dict(
    tta_cfg=dict(
        score_thr=0.0,
        nms=dict(type='official_soft_nms', min_score=0.001, merge_exponent=10, max_num=100),
    )
)
