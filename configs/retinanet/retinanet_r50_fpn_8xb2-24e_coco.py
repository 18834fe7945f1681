# RetinaNet, ResNet-50, FPN, COCO, 24 epochs.
# Target: 37.4 AP on val2017, 1333 x 800, no flip; source: MMDetection, retinanet_r50_fpn_2x.
_base_ = './retinanet_r50_fpn_8xb2-12e_coco.py'

train_cfg = dict(max_epochs=24)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=24, by_epoch=True, milestones=[16, 22], gamma=0.1),
]
