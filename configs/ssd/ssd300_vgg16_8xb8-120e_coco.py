# SSD300, VGG-16, COCO.
# Target: 25.5 AP on val2017 (MMDetection's SSD300, with this schedule).
_base_ = [
    '../_base_/models/ssd300_vgg16.py',
    '../_base_/datasets/coco_mix.py',
    '../_base_/schedules/ssd_120e.py',
]

num_classes = 80

model = dict(
    bbox_head=dict(
        predictor=dict(num_classes=num_classes),
        encoder=dict(
            num_classes=num_classes,
            min_sizes=(21, 45, 99, 153, 207, 261),
            max_sizes=(45, 99, 153, 207, 261, 315),
            topk=1000,
        ),
    ),
    test_cfg=dict(score_thr=0.02, max_per_img=200),  # MMDetection's
)

# Target, schedule and augmentation are MMDetection's. The official augmentations are
# `ssd_train_pipeline` (ssd.pytorch) and `caffe_train_pipeline`.
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=_base_.mmdet_train_pipeline))
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=_base_.ssd_test_pipeline))
test_dataloader = val_dataloader
