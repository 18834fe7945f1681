# RetinaNet, ResNet-101, FPN, COCO, 12 epochs.
# Target: 38.5 AP on val2017, 1333 x 800, no flip; source: MMDetection, retinanet_r101_fpn_1x.
_base_ = './retinanet_r50_fpn_8xb2-12e_coco.py'

model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(checkpoint='https://download.pytorch.org/models/resnet101-63fe2227.pth'),
    )
)
