# Blood cells (BCCD, MIT licence) in COCO format, 256 x 192: real images with many objects.
# ln -s PATH_OF_BCCD data/bccd
data_root = 'data/bccd/'
metainfo = dict(classes=('RBC', 'WBC', 'Platelets'))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(256, 192), keep_ratio=True),
    # blood smears have no orientation
    dict(type='RandomFlip', prob=0.75, direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(256, 192), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
# for MMDetection's CornerHead and CenterNetHead, which read `border`
bordered_test_pipeline = [
    dict(type='LoadImageFromFile', to_float32=True),  # RandomCenterCropPad needs it
    test_pipeline[1],
    dict(  # only adds `border`: no side needs padding
        type='RandomCenterCropPad',
        crop_size=None,
        ratios=None,
        border=None,
        mean=[0, 0, 0],
        std=[1, 1, 1],
        to_rgb=False,
        test_mode=True,
        test_pad_mode=['size_divisor', 32],
    ),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'border'),
    ),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=1,  # two cores: one worker is fast enough, a second one slows the training
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='RepeatDataset',  # 205 images give epochs of only 26 steps
        times=5,
        dataset=dict(
            type='CocoDataset',
            data_root=data_root,
            ann_file='annotations/instances_train.json',
            data_prefix=dict(img='images/'),
            metainfo=metainfo,
            pipeline=train_pipeline,
        ),
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='images/'),
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_annotations = 'annotations/instances_test.json'
test_dataloader = {
    **val_dataloader,
    'dataset': {**val_dataloader['dataset'], 'ann_file': test_annotations},
}

val_evaluator = dict(
    type='CocoMetric', ann_file=data_root + 'annotations/instances_val.json', metric='bbox'
)
test_evaluator = dict(type='CocoMetric', ann_file=data_root + test_annotations, metric='bbox')
