# COCO for the corner detectors: crops of 511 pixels; at test the original size, centred on
# a canvas whose sides are one less than a multiple of 128.
_base_ = 'mmdet::_base_/datasets/coco_detection.py'

meta_keys = (
    'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'border',
    'resized_shape',
)  # fmt: skip
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='CrowdAnnotations', crowd='object'),
    dict(type='CheckAnnotations', num_classes=80),
    dict(
        type='CornerNetCrop',
        size=(511, 511),
        scales=(0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3),
        border=128,
        flip_prob=0.5,
    ),
    dict(type='ColorJitterLighting', variance=0.4, lighting=0.1),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='CornerCanvas', scale=1.0, pad=127),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=meta_keys),
]
# tools/test.py --tta: the published single-scale test, each image and its mirror image
flips = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='CornerCanvas', scale=1.0, pad=127)],
            flips,
            [dict(type='LoadAnnotations', with_bbox=True)],
            [dict(type='PackDetInputs', meta_keys=meta_keys)],
        ],
    ),
]

train_dataloader = dict(
    num_workers=4,
    batch_sampler=None,
    dataset=dict(pipeline=train_pipeline, filter_cfg=None),  # images without objects are used
)
val_dataloader = dict(batch_size=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
