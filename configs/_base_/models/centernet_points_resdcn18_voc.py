# CenterNet (objects as points) on ResNet-18 for VOC, as in the official VOC experiments.
_base_ = './centernet_points_resdcn18.py'

num_classes = 20

model = dict(
    data_preprocessor=dict(  # RGB values on BGR images, as in the official code
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=False
    ),
    bbox_head=dict(
        predictor=dict(num_classes=num_classes),
        encoder=dict(num_classes=num_classes, max_objects=50),
    ),
)
