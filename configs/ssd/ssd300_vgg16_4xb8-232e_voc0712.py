# SSD300, VGG-16, PASCAL VOC 2007 + 2012.
# Target: 77.43 mAP on VOC 2007 test with ssd.pytorch's augmentation (this one), 77.2 with Caffe's
# (weiliu89/caffe, SSD300*; `pipeline=_base_.caffe_train_pipeline`).
_base_ = [
    '../_base_/models/ssd300_vgg16.py',
    '../_base_/datasets/voc_mix.py',
    '../_base_/schedules/ssd_120k.py',
]

train_dataloader = dict(batch_size=8, dataset=dict(pipeline=_base_.ssd_train_pipeline))
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=_base_.ssd_test_pipeline))
test_dataloader = val_dataloader
