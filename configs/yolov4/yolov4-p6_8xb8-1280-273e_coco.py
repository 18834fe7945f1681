# YOLOv4-P6 in darknet's layout and with darknet's loss, COCO, mosaic, tested at 1280.
# No training target, see README; the official weights have 54.0 AP on test-dev at 1280.
_base_ = './yolov4-csp_8xb8-640-273e_coco.py'

size = 1280

channels = (256, 512, 1024, 1024)
half = (128, 256, 512, 512)

model = dict(
    data_preprocessor=dict(
        pad_size_divisor=64,
    ),
    backbone=dict(arch='p6', out_indices=(3, 4, 5, 6)),
    neck=dict(in_channels=channels, out_channels=half, blocks=3),
    bbox_head=dict(
        predictor=dict(in_channels=half, num_anchors=4),
        encoder=dict(
            anchors=[  # fine to coarse
                [(13, 17), (31, 25), (24, 51), (61, 45)],
                [(61, 45), (48, 102), (119, 96), (97, 189)],
                [(97, 189), (217, 184), (171, 384), (324, 451)],
                [(324, 451), (545, 357), (616, 618), (1024, 1024)],
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
