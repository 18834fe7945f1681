# YOLOv4 (darknet's network) as PyTorch_YOLOv4 trains it: loss, schedule and weight average of that
# code. COCO, 640. No target: this combination has no published results.
_base_ = '../scaled_yolov4/scaled_yolov4_csp-cfg_8xb8-300e-640_coco.py'

norm_cfg = dict(type='BN', eps=1e-4, momentum=0.03)

model = dict(
    backbone=dict(arch='v4'),
    neck=dict(
        _delete_=True,
        type='YOLOV4Neck',
        in_channels=(256, 512, 1024),
        out_channels=(128, 256, 512),
        norm_cfg=norm_cfg,
    ),
    bbox_head=dict(
        predictor=dict(act_cfg=dict(type='LeakyReLU', negative_slope=0.1)),
        criterion=dict(obj_gain=0.6, cls_gain=0.3),
    ),
)

custom_hooks = _base_.custom_hooks
custom_hooks[0].final_fraction = 0.1
