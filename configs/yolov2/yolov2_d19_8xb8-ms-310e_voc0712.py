# YOLOv2, Darknet-19, PASCAL VOC 2007 + 2012, multi-scale training.
# Target: 76.8 mAP on VOC 2007 test at 416, 78.6 at 544 (abstract of the paper).
_base_ = [
    '../_base_/models/yolov2_d19.py',
    '../_base_/datasets/voc_mix.py',
    '../_base_/schedules/darknet_500k.py',
]

train_dataloader = dict(batch_size=8, dataset=dict(pipeline=_base_.yolov2_train_pipeline))
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=_base_.yolov2_test_pipeline))
test_dataloader = val_dataloader

# 80,200 iterations of 64 images, learning rate / 10 at 40,000 and 60,000
max_epochs = 310
train_cfg = dict(max_epochs=max_epochs, val_interval=10)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', by_epoch=False, milestones=[40000, 60000], gamma=0.1),
]
