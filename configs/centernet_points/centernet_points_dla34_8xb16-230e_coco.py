# CenterNet (objects as points), DLA-34 with deformable up-sampling, COCO, "2x": 230 epochs.
# Target: 37.4 AP on val2017 (39.2 with flip test, --tta; 41.7 with flip and multi-scale).
# Source: the official model zoo, ctdet_coco_dla_2x; it starts from ImageNet weights, see README.
_base_ = './centernet_points_dla34_8xb16-140e_coco.py'

train_cfg = dict(max_epochs=230)
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=230, by_epoch=True, milestones=[180, 210], gamma=0.1),
]
