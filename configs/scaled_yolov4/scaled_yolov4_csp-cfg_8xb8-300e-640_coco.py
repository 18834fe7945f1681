# YOLOv4-csp as the branch yolov4-csp of ScaledYOLOv4 trains it: darknet's layout of the network and
# gains of its own. COCO, 640.
# Target: 48.7 AP (67.4 AP50) on test-dev at 640 (darknet's README).
_base_ = './scaled_yolov4_csp_8xb8-300e-640_coco.py'

norm_cfg = dict(type='BN', eps=1e-4, momentum=0.03)

model = dict(
    backbone=dict(norm_cfg=norm_cfg),
    neck=dict(renorm=False, norm_cfg=norm_cfg),
    bbox_head=dict(predictor=dict(norm_cfg=norm_cfg), criterion=dict(obj_gain=0.7, cls_gain=0.3)),
)

custom_hooks = _base_.custom_hooks
custom_hooks[0].warmup_momentum = 0.8

# the mosaic of this branch meets at a random point; `scale` and `translate` of its hyp.scratch.yaml
train_pipeline = _base_.train_pipeline
train_pipeline[0].update(scale=0.9, translate=0.1, center='random', min_area=0.1)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
