# SSD300, VGG-16, PASCAL VOC 2007 + 2012, as the original Caffe code trains and tests it.
# Target: 77.2 mAP on VOC 2007 test at 300 (weiliu89/caffe, SSD300*).
_base_ = [
    '../_base_/models/ssd300_vgg16.py',
    '../_base_/datasets/voc_mix_difficult.py',
    '../_base_/schedules/ssd_120k_caffe.py',
]

model = dict(
    backbone=dict(init_cfg=_base_.vgg_reduced),
    bbox_head=dict(
        encoder=dict(clip=False, matching='bipartite', topk=400),
        criterion=dict(normalizer='positives'),  # of each GPU
    ),
    test_cfg=dict(max_per_img=200),
)

train_dataloader = dict(batch_size=8, dataset=dict(pipeline=_base_.caffe_train_pipeline))
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=_base_.ssd_test_pipeline))
test_dataloader = val_dataloader
