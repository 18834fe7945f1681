# KITTI tracking: training on the first halves of the training videos, validation on the others.
# Files: python tools/kitti_to_coco.py data/kitti_tracking
data_root = 'data/kitti_tracking/'
metainfo = dict(classes=('Pedestrian', 'Car', 'Cyclist'))
# ignored regions, of one class or of all classes
ignored = dict(Van='Car', Truck='Car', Person_sitting='Pedestrian', DontCare=None)

train_pipeline = [
    dict(type='SamplePair', gaps=(-2, -1, 0, 1, 2)),
    dict(
        type='WithPrevious',
        transforms=[dict(type='LoadImageFromFile'), dict(type='LoadTrackAnnotations')],
    ),
    dict(
        type='PairAffine',
        size=(1280, 384),
        scale_range=(0.6, 1.4, 0.1),
        center_border=128,
        flip_prob=0.5,
    ),
    dict(type='WithPrevious', transforms=[dict(type='ColorJitterLighting')]),
    dict(type='PackPairInputs'),
]
test_pipeline = [
    dict(type='SamplePair', gaps=(1,)),
    dict(type='LoadImageFromFile'),
    dict(type='CenterAffine', size=(1280, 384)),
    dict(type='LoadTrackAnnotations'),  # after CenterAffine: in original pixels
    dict(type='PackPairInputs'),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='TrackImgSampler'),
    dataset=dict(
        type='IdentityVideoDataset',
        data_root=data_root,
        ann_file='annotations/tracking_train_half.json',
        data_prefix=dict(img='data_tracking_image_2/training/image_02/'),
        metainfo=metainfo,
        ignored=ignored,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='TrackImgSampler'),  # keeps whole videos, with frames in order
    dataset=dict(
        type='IdentityVideoDataset',
        data_root=data_root,
        ann_file='annotations/tracking_val_half.json',
        data_prefix=dict(img='data_tracking_image_2/training/image_02/'),
        metainfo=metainfo,
        ignored=ignored,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='MOTMetric')
test_evaluator = val_evaluator
