# CenterTrack, DLA-34, pre-trained on CrowdHuman: single images with simulated motion.
# It starts from ImageNet weights, see README. Target: MOTA 52.2 on the second halves of MOT17,
# private detection, 544 x 960, no flip; source: the official model zoo, crowdhuman.
_base_ = [
    '../_base_/models/centertrack_dla34.py',
    '../_base_/datasets/mot17_half.py',
    '../_base_/schedules/centertrack_70e.py',
    '../_base_/center_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained', checkpoint='checkpoints/dla34_imagenet.pth', prefix='backbone.'
        )
    ),
    bbox_head=dict(encoder=dict(max_objects=128)),
)

# Files: python <mmdet>/.mim/tools/dataset_converters/crowdhuman2coco.py -i data/crowdhuman \
#     -o data/crowdhuman/annotations
train_pipeline = [
    dict(type='SamplePair', gaps=(0,)),
    dict(
        type='WithPrevious',
        transforms=[dict(type='LoadImageFromFile'), dict(type='LoadTrackAnnotations')],
    ),
    dict(
        type='PairAffine',
        size=(512, 512),
        scale_range=(0.6, 1.4, 0.1),
        center_border=128,
        flip_prob=0.5,
        shift=0.05,
        zoom=0.05,
    ),
    dict(type='WithPrevious', transforms=[dict(type='ColorJitterLighting')]),
    dict(type='PackPairInputs'),
]
train_dataloader = dict(
    dataset=dict(
        data_root='data/crowdhuman/',
        ann_file='annotations/crowdhuman_train.json',
        data_prefix=dict(img='train/'),
        pipeline=train_pipeline,
    )
)

train_cfg = dict(max_epochs=140, val_interval=20)
default_hooks = dict(checkpoint=dict(interval=20))
optim_wrapper = dict(optimizer=dict(lr=2.5e-4))
# the script reduces it at 90 and 120, the text of the model zoo has 90 and 140
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=140, by_epoch=True, milestones=[90, 120], gamma=0.1)
]

auto_scale_lr = dict(enable=False, base_batch_size=64)
