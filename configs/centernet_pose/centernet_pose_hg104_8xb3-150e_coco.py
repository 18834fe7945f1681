# Multi-person pose (objects as points), Hourglass-104, COCO, "3x": 150 epochs.
# Target: 64.0 keypoint AP on val2017 with flip test (--tta). Source: the official model zoo,
# multi_pose_hg_3x.
_base_ = './centernet_pose_hg104_8xb3-50e_coco.py'

train_cfg = dict(max_epochs=150)
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=150, by_epoch=True, milestones=[130], gamma=0.1),
]
