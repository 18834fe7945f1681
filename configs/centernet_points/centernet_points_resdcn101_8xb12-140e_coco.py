# CenterNet (objects as points), ResNet-101 with deformable up-convolutions, COCO.
# Target: 34.6 AP on val2017 (36.2 with flip test, --tta; 39.3 with flip and multi-scale), 512 in
# training, original size at test; source: the official model zoo, ctdet_coco_resdcn101.
_base_ = './centernet_points_resdcn18_8xb14-140e_coco.py'

model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(checkpoint='https://download.pytorch.org/models/resnet101-63fe2227.pth'),
    ),
    neck=dict(in_channels=2048),
)

train_dataloader = dict(batch_size=12)
optim_wrapper = dict(optimizer=dict(lr=3.75e-4))
auto_scale_lr = dict(enable=False, base_batch_size=96)
# batch_sampler of 8 GPUs (README: batch norm)
official_split = dict(type='SplitBatchSampler', sizes=(5, *[13] * 7))
