# YOLOv3, Darknet-53, PASCAL VOC 2007 + 2012, trained at 320 to 608, tested at 416.
# Schedule and ignore threshold of yolov3-voc.cfg; no official figure to reach was found.
_base_ = [
    '../_base_/models/yolov3_d53.py',
    '../_base_/datasets/voc_mix.py',
    '../_base_/schedules/darknet_500k.py',
]

num_classes = 20

model = dict(
    bbox_head=dict(
        predictor=dict(num_classes=num_classes),
        encoder=dict(num_classes=num_classes),
        criterion=dict(ignore_threshold=0.5),
    ),
)

test_pipeline = _base_.yolov3_test_pipeline
test_pipeline[1].scale = (416, 416)
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=_base_.yolov3_train_pipeline))
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

# 50,200 iterations of 64 images, learning rate / 10 at 40,000 and 45,000
max_epochs = 194
train_cfg = dict(max_epochs=max_epochs, val_interval=10)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', by_epoch=False, milestones=[40000, 45000], gamma=0.1),
]
