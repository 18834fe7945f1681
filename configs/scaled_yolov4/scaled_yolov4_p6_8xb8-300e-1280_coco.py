# YOLOv4-P6, COCO, 1280.
# Target: 54.3 AP on test-dev, 53.9 on val2017 (official README of Scaled-YOLOv4).
_base_ = './scaled_yolov4_csp_8xb8-300e-640_coco.py'

size = 1280
strides = (8, 16, 32, 64)
channels = (256, 512, 1024, 1024)
half = (128, 256, 512, 512)

model = dict(
    data_preprocessor=dict(pad_size_divisor=64),
    backbone=dict(arch='p6', out_indices=(3, 4, 5, 6)),
    neck=dict(in_channels=channels, out_channels=half, blocks=3),
    bbox_head=dict(
        predictor=dict(in_channels=half, num_anchors=4, strides=strides),
        encoder=dict(
            anchors=[  # fine to coarse
                [(13, 17), (31, 25), (24, 51), (61, 45)],
                [(61, 45), (48, 102), (119, 96), (97, 189)],
                [(97, 189), (217, 184), (171, 384), (324, 451)],
                [(324, 451), (545, 357), (616, 618), (1024, 1024)],
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
