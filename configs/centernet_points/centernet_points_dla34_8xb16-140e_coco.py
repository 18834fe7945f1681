# CenterNet (objects as points), DLA-34 with deformable up-sampling, COCO, "1x": 140 epochs.
# Target: 36.3 AP on val2017 (38.2 with flip test, --tta; 40.7 with flip and multi-scale).
# Source: the official model zoo, ctdet_coco_dla_1x; it starts from ImageNet weights, see README.
_base_ = './centernet_points_resdcn18_8xb14-140e_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='DLANet',
        init_cfg=dict(
            type='Pretrained', checkpoint='checkpoints/dla34_imagenet.pth', prefix='backbone.'
        ),
    ),
    neck=dict(_delete_=True, type='DLAUpNeck', in_channels=(64, 128, 256, 512), conv='dcn'),
    bbox_head=dict(predictor=dict(channels=256, weight_std=None)),
)

train_dataloader = dict(batch_size=16)
auto_scale_lr = dict(enable=False, base_batch_size=128)
# batch_sampler of 8 GPUs (README: batch norm)
official_split = dict(type='SplitBatchSampler', sizes=(9, *[17] * 7))
