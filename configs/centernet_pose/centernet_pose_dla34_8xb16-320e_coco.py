# Multi-person pose (objects as points), DLA-34 with deformable up-sampling, COCO, "3x": 320 epochs.
# Target: 58.9 keypoint AP on val2017 with flip test (--tta). Source: the official model zoo,
# multi_pose_dla_3x.
_base_ = './centernet_pose_dla34_8xb16-140e_coco.py'

train_cfg = dict(max_epochs=320)
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=320, by_epoch=True, milestones=[270, 300], gamma=0.1),
]
