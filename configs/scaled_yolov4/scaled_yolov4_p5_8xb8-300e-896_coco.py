# YOLOv4-P5, COCO, 896.
# Target: 51.4 AP on test-dev, 51.2 on val2017 (official README of Scaled-YOLOv4).
_base_ = './scaled_yolov4_csp_8xb8-300e-640_coco.py'

size = 896
strides = (8, 16, 32)
channels = (256, 512, 1024)
half = (128, 256, 512)

model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(arch='p5', out_indices=(3, 4, 5)),
    neck=dict(in_channels=channels, out_channels=half, blocks=3),
    bbox_head=dict(
        predictor=dict(in_channels=half, num_anchors=4, strides=strides),
        encoder=dict(
            anchors=[  # fine to coarse
                [(13, 17), (31, 25), (24, 51), (61, 45)],
                [(48, 102), (119, 96), (97, 189), (217, 184)],
                [(171, 384), (324, 451), (616, 618), (800, 800)],
            ],
            strides=strides,
        ),
    ),
)

train_pipeline = _base_.train_pipeline
train_pipeline[0].size = size
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(size=size, stride=strides[-1])
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
