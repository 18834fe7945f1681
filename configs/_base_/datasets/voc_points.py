# PASCAL VOC 2007 + 2012 for the centre detectors, 384 x 384 pixels in training and at test.
_base_ = 'mmdet::_base_/datasets/voc0712.py'

input_size = (384, 384)  # (w, h); a child config that changes it must repeat the pipelines
meta_keys = (
    'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'border',
)  # fmt: skip
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='CrowdAnnotations', crowd='object'),  # the official code does not read `difficult`
    dict(type='CheckAnnotations', num_classes=20),
    dict(
        type='CenterAffine',
        size=input_size,
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
    dict(type='CenterAffine', size=input_size, mode='fix'),
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
            [dict(type='CenterAffine', size=input_size, mode='fix')],
            flips,
            [dict(type='LoadAnnotations', with_bbox=True)],
            [dict(type='PackDetInputs', meta_keys=meta_keys)],
        ],
    ),
]

train_dataloader = dict(
    batch_sampler=None,
    num_workers=4,
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        ignore_keys=['dataset_type'],
        datasets=[
            dict(
                type='VOCDataset',
                data_root='data/VOCdevkit/',
                ann_file=f'VOC{year}/ImageSets/Main/trainval.txt',
                data_prefix=dict(sub_data_root=f'VOC{year}/'),
                pipeline=train_pipeline,
            )
            for year in (2007, 2012)
        ],
    ),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
