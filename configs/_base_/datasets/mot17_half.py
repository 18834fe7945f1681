# MOT17: training on the first halves of the training videos, validation on the others.
# Files: python <mmdet>/.mim/tools/dataset_converters/mot2coco.py -i data/MOT17 \
#     -o data/MOT17/annotations --split-train
# with the FRCNN copy of each video alone in data/MOT17/train.
data_root = 'data/MOT17/'
metainfo = dict(classes=('pedestrian',))

train_pipeline = [
    dict(type='SamplePair', gaps=(-2, -1, 0, 1, 2)),
    dict(
        type='WithPrevious',
        transforms=[dict(type='LoadImageFromFile'), dict(type='LoadTrackAnnotations')],
    ),
    dict(
        type='PairAffine',
        size=(960, 544),
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
    dict(type='CenterAffine', size=(960, 544)),
    dict(type='LoadTrackAnnotations'),  # after CenterAffine: in original pixels
    dict(type='PackPairInputs'),
]

train_dataloader = dict(
    batch_size=16,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='TrackImgSampler'),
    dataset=dict(
        type='IdentityVideoDataset',
        data_root=data_root,
        ann_file='annotations/half-train_cocoformat.json',
        data_prefix=dict(img='train/'),
        metainfo=metainfo,
        visibility_thr=0.25,
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
        ann_file='annotations/half-val_cocoformat.json',
        data_prefix=dict(img='train/'),
        metainfo=metainfo,
        # classes that the evaluation of MOT Challenge ignores
        ignored=dict(
            person_on_vehicle='pedestrian',
            static_person='pedestrian',
            distractor='pedestrian',
            reflection='pedestrian',
        ),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='MOTMetric')
test_evaluator = val_evaluator
