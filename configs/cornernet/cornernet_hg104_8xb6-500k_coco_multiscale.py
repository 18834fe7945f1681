# CornerNet's multi-scale test (tools/test.py --tta): five scales, each with its mirror image, and
# boxes merged in NMS.
# Target: 42.1 AP (57.8 AP50) on test-dev. Source: table 1 of CenterNet (triplets).
_base_ = './cornernet_hg104_8xb6-500k_coco.py'

scales = (0.5, 0.75, 1.0, 1.25, 1.5)
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
