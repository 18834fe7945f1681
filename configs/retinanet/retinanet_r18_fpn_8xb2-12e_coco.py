# RetinaNet, ResNet-18, FPN, COCO, 12 epochs.
# Target: 31.7 AP on val2017, 1333 x 800, no flip; source: MMDetection, retinanet_r18_fpn_1x.
_base_ = './retinanet_r50_fpn_8xb2-12e_coco.py'

model = dict(
    backbone=dict(
        depth=18,
        init_cfg=dict(checkpoint='https://download.pytorch.org/models/resnet18-f37072fd.pth'),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
