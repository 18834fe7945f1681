# COCO for the centre detectors: a random part of the image at 512 x 512 pixels; at test the
# original size, centred on a canvas whose sides are multiples of 32.
_base_ = 'mmdet::_base_/datasets/coco_detection.py'

meta_keys = (
    'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'border',
)  # fmt: skip
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='CrowdAnnotations', crowd='object'),
    dict(type='CheckAnnotations', num_classes=80),
    dict(
        type='CenterAffine',
        size=(512, 512),
        mode='fix',
        scale_range=(0.6, 1.4, 0.1),
        center_border=128,
        flip_prob=0.5,
    ),
    dict(type='ColorJitterLighting'),
    dict(type='PackDetInputs', meta_keys=meta_keys),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='CenterAffine', mode='keep', pad=31),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=meta_keys),
]
# tools/test.py --tta: the official flip test
flips = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='CenterAffine', mode='keep', pad=31)],
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
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
