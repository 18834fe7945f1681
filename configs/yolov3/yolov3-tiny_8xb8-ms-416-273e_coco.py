# YOLOv3-tiny, COCO, trained at 320 to 608, tested at 416: yolov3-tiny.cfg of Redmon's darknet.
# Target: 33.1 AP50 on COCO at 416 (darknet's page).
_base_ = [
    '../_base_/models/yolov3_d53.py',
    '../_base_/models/darknet_tiny_trunk.py',
    '../_base_/datasets/coco_mix.py',
    '../_base_/schedules/darknet_500k.py',
]

num_classes = 80
size = 416
anchors = [  # coarse to fine
    [(81, 82), (135, 169), (344, 319)],
    [(10, 14), (23, 27), (37, 58)],
]
layers = [  # `layers` of a row are numbers of earlier rows
    *_base_.tiny_trunk,
    dict(type='convolutional', filters=256, size=1, batch_normalize=True, activation='leaky'),
    dict(type='convolutional', filters=512, size=3, batch_normalize=True, activation='leaky'),
    dict(type='convolutional', filters=255, size=1, activation='linear'),
    dict(type='yolo', anchors=3),
    dict(type='route', layers=[13]),
    dict(type='convolutional', filters=128, size=1, batch_normalize=True, activation='leaky'),
    dict(type='upsample', stride=2),
    dict(type='route', layers=[19, 8]),
    dict(type='convolutional', filters=256, size=3, batch_normalize=True, activation='leaky'),
    dict(type='convolutional', filters=255, size=1, activation='linear'),
    dict(type='yolo', anchors=3),
]

model = dict(
    backbone=dict(_delete_=True, type='DarknetFromCfg', layers=layers, num_classes=num_classes),
    neck=None,
    bbox_head=dict(
        predictor=dict(
            _delete_=True, type='DarknetPredictor', detector='yolov3', num_classes=num_classes
        ),
        encoder=dict(anchors=anchors),
    ),
)

train_pipeline, test_pipeline = _base_.yolov3_train_pipeline, _base_.yolov3_test_pipeline
train_pipeline[0].size = test_pipeline[1].size = (size, size)
train_dataloader = dict(
    batch_size=8,
    batch_sampler=_base_.drawn_sizes,
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
