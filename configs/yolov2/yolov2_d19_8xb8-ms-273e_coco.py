# YOLOv2, Darknet-19, COCO, trained at 320 to 608, tested at 608 (yolov2.cfg).
# No target at 608; the published one, at 544, is that of yolov2_d19_8xb8-ms-544-273e_coco.py.
_base_ = [
    '../_base_/models/yolov2_d19.py',
    '../_base_/datasets/coco_mix.py',
    '../_base_/schedules/darknet_500k.py',
]

load_from = 'checkpoints/darknet19_448.conv.pth'  # README: how to get it

num_classes = 80
anchors = [
    [
        (18.3274, 21.6763),
        (59.9827, 66.001),
        (106.8298, 175.1789),
        (252.2502, 112.889),
        (312.6566, 293.385),
    ]
]

model = dict(
    bbox_head=dict(
        predictor=dict(num_classes=num_classes),
        encoder=dict(num_classes=num_classes, anchors=anchors),
    ),
)

test_pipeline = _base_.yolov2_test_pipeline
test_pipeline[1].size = (608, 608)
train_dataloader = dict(
    batch_size=8,
    batch_sampler=_base_.drawn_sizes,
    dataset=dict(pipeline=_base_.yolov2_train_pipeline),
)
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
