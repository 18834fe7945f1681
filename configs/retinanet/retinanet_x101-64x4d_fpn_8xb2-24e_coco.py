# RetinaNet, ResNeXt-101 64x4d, FPN, COCO, 24 epochs.
# Target: 40.8 AP on val2017, 1333 x 800, no flip; source: MMDetection, retinanet_x101-64x4d_fpn_2x.
_base_ = './retinanet_r50_fpn_8xb2-24e_coco.py'

model = dict(
    backbone=dict(
        type='ResNeXt',
        depth=101,
        groups=64,
        base_width=4,
        init_cfg=dict(checkpoint='open-mmlab://resnext101_64x4d'),
    )
)
