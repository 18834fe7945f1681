# SSD512, VGG-16, PASCAL VOC 2007 + 2012.
# Target: 79.8 mAP on VOC 2007 test with Caffe's augmentation (weiliu89/caffe, SSD512*).
_base_ = [
    '../_base_/models/ssd512_vgg16.py',
    '../_base_/datasets/voc_mix.py',
    '../_base_/schedules/ssd_120k.py',
]

train_dataloader = dict(batch_size=8, dataset=dict(pipeline=_base_.caffe_train_pipeline))
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=_base_.ssd_test_pipeline))
test_dataloader = val_dataloader
