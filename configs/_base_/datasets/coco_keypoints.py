# COCO persons with 17 keypoints for the centre detectors: a random part of the image at
# 512 x 512 pixels; at test the original size, centred on a canvas of multiples of 32.
data_root = 'data/coco/'

meta_keys = (
    'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'border',
)  # fmt: skip
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadKeypointAnnotations', with_bbox=True),
    dict(type='CrowdAnnotations', crowd='object'),
    dict(type='CheckAnnotations', num_classes=1),
    dict(
        type='CenterAffine',
        size=(512, 512),
        mode='fix',
        scale_range=(0.6, 1.4, 0.1),
        center_border=128,
        flip_prob=0.5,
    ),
    dict(type='ColorJitterLighting'),
    dict(type='PackKeypointInputs', meta_keys=meta_keys),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='CenterAffine', mode='keep', pad=31),
    dict(type='LoadKeypointAnnotations', with_bbox=True),
    dict(type='PackKeypointInputs', meta_keys=meta_keys),
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
            [dict(type='LoadKeypointAnnotations', with_bbox=True)],
            [dict(type='PackKeypointInputs', meta_keys=meta_keys)],
        ],
    ),
]

train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=None,
    dataset=dict(
        type='CocoKeypointDataset',
        data_root=data_root,
        ann_file='annotations/person_keypoints_train2017.json',
        data_prefix=dict(img='train2017/'),
        filter_cfg=dict(filter_empty_gt=True),  # keeps the 64115 images with persons
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoKeypointDataset',
        data_root=data_root,
        ann_file='annotations/person_keypoints_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    type='CocoKeypointMetric',
    ann_file=data_root + 'annotations/person_keypoints_val2017.json',
    metric=['keypoints', 'bbox'],
)
test_evaluator = val_evaluator
