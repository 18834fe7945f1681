# SSD300, VGG-16, PASCAL VOC 2007 + 2012.
# Target: 77.43 mAP on VOC 2007 test at 300 (ssd.pytorch). The recipe of the Caffe code is
# ssd300_vgg16-caffe_4xb8-232e_voc0712.py.
_base_ = [
    '../_base_/models/ssd300_vgg16.py',
    '../_base_/datasets/voc_mix.py',
    '../_base_/schedules/ssd_120k.py',
]

model = dict(backbone=dict(init_cfg=_base_.vgg_reduced))

train_dataloader = dict(batch_size=8, dataset=dict(pipeline=_base_.ssd_train_pipeline))
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=_base_.ssd_test_pipeline))
test_dataloader = val_dataloader
