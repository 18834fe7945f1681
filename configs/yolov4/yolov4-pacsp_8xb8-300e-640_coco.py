# YOLOv4-pacsp, trained as by PyTorch_YOLOv4: YOLOv4-csp's network with LeakyReLU. COCO, 640.
# No target: the published 47.2 AP (val2017, 672) are older than this trainer.
_base_ = './yolov4_csp53-pytorch_8xb8-300e-640_coco.py'

act_cfg = dict(type='LeakyReLU', negative_slope=0.1)

model = dict(
    backbone=dict(arch='csp', act_cfg=act_cfg),
    neck=dict(type='ScaledYOLOV4Neck', blocks=2, act_cfg=act_cfg),
)
