# YOLOv3, Darknet-53, COCO, trained at 320 to 608, tested at 608.
# Target: 33.0 AP (57.9 AP50) at 608 with Redmon's loss, as here (abstract of the paper, COCO).
_base_ = [
    '../_base_/models/yolov3_d53.py',
    '../_base_/datasets/coco_mix.py',
    '../_base_/schedules/darknet_500k.py',
]

train_dataloader = dict(
    batch_size=8,
    batch_sampler=_base_.drawn_sizes,
    dataset=dict(pipeline=_base_.yolov3_train_pipeline),
)
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=_base_.yolov3_test_pipeline))
test_dataloader = val_dataloader
