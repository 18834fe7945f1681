# YOLOv4-P5 in darknet's layout and with darknet's loss, COCO, mosaic, tested at 896.
# No training target, see README; the official weights have 51.6 AP on test-dev at 896.
_base_ = './yolov4-csp_8xb8-640-273e_coco.py'

size = 896

model = dict(
    backbone=dict(arch='p5'),
    neck=dict(blocks=3),
    bbox_head=dict(
        predictor=dict(num_anchors=4),
        encoder=dict(
            anchors=[  # fine to coarse
                [(13, 17), (31, 25), (24, 51), (61, 45)],
                [(48, 102), (119, 96), (97, 189), (217, 184)],
                [(171, 384), (324, 451), (616, 618), (800, 800)],
            ],
        ),
        criterion=dict(obj_normalizer=1.0, objectness_smooth=True, max_delta=2.0),
    ),
)

train_pipeline = _base_.train_pipeline
train_pipeline[0].size = (size, size)
test_pipeline = _base_.test_pipeline
test_pipeline[1].size = (size, size)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
