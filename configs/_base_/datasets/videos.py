# Moving handwritten digits on real textures, 160 x 160: made by tools/make_videos.py.
data_root = 'data/videos/'
made_by = dict(tool='make_videos')
metainfo = dict(classes=('digit',))

load = [dict(type='LoadImageFromFile'), dict(type='LoadTrackAnnotations')]
train_pipeline = [
    dict(type='SamplePair', gaps=(-1, 1)),  # a reversed video is also a valid video
    dict(type='WithPrevious', transforms=load),
    dict(type='PackPairInputs'),
]
test_pipeline = [
    dict(type='SamplePair', gaps=(1,)),
    dict(
        type='WithPrevious',
        transforms=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(160, 160), keep_ratio=True),
            dict(type='LoadTrackAnnotations'),  # after Resize: in original pixels
        ],
    ),
    dict(type='PackPairInputs'),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=1,  # two cores: one worker is fast enough, a second one slows the training
    persistent_workers=True,
    sampler=dict(type='TrackImgSampler'),
    dataset=dict(
        type='IdentityVideoDataset',
        data_root=data_root,
        ann_file='annotations/train.json',
        data_prefix=dict(img='train/'),
        metainfo=metainfo,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,  # consecutive frames; they are tracked one by one
    num_workers=1,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='TrackImgSampler'),  # keeps whole videos, with frames in order
    dataset=dict(
        type='IdentityVideoDataset',
        data_root=data_root,
        ann_file='annotations/val.json',
        data_prefix=dict(img='val/'),
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='MOTMetric')
test_evaluator = val_evaluator
