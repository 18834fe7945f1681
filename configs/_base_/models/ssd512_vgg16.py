# SSD512 on VGG-16 with the boxes and classes of PASCAL VOC, and its pipelines.
_base_ = './ssd300_vgg16.py'

size = 512
channels = (512, 1024, 512, 256, 256, 256, 256)

model = dict(
    neck=dict(
        out_channels=channels,
        level_strides=(2, 2, 2, 2, 1),
        level_paddings=(1, 1, 1, 1, 1),
        last_kernel_size=4,
    ),
    bbox_head=dict(
        predictor=dict(in_channels=channels, num_anchors=(4, 6, 6, 6, 6, 4, 4)),
        encoder=dict(
            min_sizes=(35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8),
            max_sizes=(76.8, 153.6, 230.4, 307.2, 384.0, 460.8, 537.6),
            strides=(8, 16, 32, 64, 128, 256, 512),
            aspect_ratios=((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,)),
        ),
    ),
)

ssd_train_pipeline = _base_.ssd_train_pipeline
ssd_train_pipeline[0].size = (size, size)
caffe_train_pipeline = _base_.caffe_train_pipeline
caffe_train_pipeline[0].size = (size, size)
mmdet_train_pipeline = _base_.mmdet_train_pipeline
mmdet_train_pipeline[1].scale = (size, size)
ssd_test_pipeline = _base_.ssd_test_pipeline
ssd_test_pipeline[1].scale = (size, size)
