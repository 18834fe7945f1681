# YOLOv4-P7, COCO, 1536.
# Target: 55.4 AP on test-dev, 55.0 on val2017 (official README of Scaled-YOLOv4).
_base_ = './scaled_yolov4_csp_8xb8-300e-640_coco.py'

size = 1536
strides = (8, 16, 32, 64, 128)
channels = (320, 640, 1280, 1280, 1280)
half = (160, 320, 640, 640, 640)

model = dict(
    data_preprocessor=dict(pad_size_divisor=128),
    backbone=dict(arch='p7', out_indices=(3, 4, 5, 6, 7)),
    neck=dict(in_channels=channels, out_channels=half, blocks=3),
    bbox_head=dict(
        predictor=dict(in_channels=half, num_anchors=4, strides=strides),
        encoder=dict(
            anchors=[  # fine to coarse
                [(13, 17), (22, 25), (27, 66), (55, 41)],
                [(57, 88), (112, 69), (69, 177), (136, 138)],
                [(136, 138), (287, 114), (134, 275), (268, 248)],
                [(268, 248), (232, 504), (445, 416), (640, 640)],
                [(812, 393), (477, 808), (1070, 908), (1408, 1408)],
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
