# CenterNet (objects as points), Hourglass-104, COCO, 50 epochs from ExtremeNet's weights (README:
# how to get them).
# Target: 40.3 AP on val2017 (42.2 with flip test, --tta; 45.1 with flip and multi-scale).
# Source: the official model zoo, ctdet_coco_hg.
_base_ = './centernet_points_resdcn18_8xb14-140e_coco.py'

num_stacks = 2
load_from = 'checkpoints/extremenet_hourglass.pth'

model = dict(
    data_preprocessor=dict(pad_size_divisor=128),
    backbone=dict(_delete_=True, type='HourglassNet', num_stacks=num_stacks),
    neck=None,
    bbox_head=dict(
        predictor=dict(in_channels=256, channels=256, num_stacks=num_stacks, weight_std=None)
    ),
)

test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='CenterAffine', mode='keep', pad=127),  # sides that are divisible by 128
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=_base_.meta_keys),
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='CenterAffine', mode='keep', pad=127)],
            _base_.flips,
            [dict(type='LoadAnnotations', with_bbox=True)],
            [dict(type='PackDetInputs', meta_keys=_base_.meta_keys)],
        ],
    ),
]

train_dataloader = dict(batch_size=3)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=50)
optim_wrapper = dict(optimizer=dict(lr=2.5e-4))
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=50, by_epoch=True, milestones=[40], gamma=0.1),
]

auto_scale_lr = dict(enable=False, base_batch_size=24)
# batch_sampler of 5 GPUs (README: batch norm)
official_split = dict(type='SplitBatchSampler', sizes=(4, 5, 5, 5, 5))
