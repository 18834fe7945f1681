# YOLOv4-csp-swish in darknet's layout and with darknet's loss, COCO, mosaic, 640: Swish instead of
# Mish, and for each object the best anchor alone.
# No training target, see README; the official weights have 50.0 AP (68.7 AP50) on test-dev at 640.
_base_ = './yolov4-csp_8xb8-640-273e_coco.py'

act_cfg = dict(type='Swish')

model = dict(
    backbone=dict(act_cfg=act_cfg),
    neck=dict(act_cfg=act_cfg),
    bbox_head=dict(
        predictor=dict(act_cfg=act_cfg),
        encoder=dict(iou_threshold=1.0),
        criterion=dict(obj_normalizer=0.4, objectness_smooth=True, max_delta=2.0),
    ),
)

train_pipeline = _base_.train_pipeline
train_pipeline[0].size = (640, 640)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
