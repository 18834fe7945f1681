# YOLOv4-tiny with a third map, COCO, trained and tested at 608: yolov4-tiny-3l.cfg of AlexeyAB's
# darknet.
# No target: no AP is published.
_base_ = './yolov4-tiny_8xb8-416-273e_coco.py'

size = 608
anchors = [  # coarse to fine
    [(142, 110), (192, 243), (459, 401)],
    [(36, 75), (76, 55), (72, 146)],
    [(12, 16), (19, 36), (40, 28)],
]
all_anchors = [*anchors[2], *anchors[1], *anchors[0]]
masks = [(6, 7, 8), (3, 4, 5), (0, 1, 2)]

layers = [
    *_base_.layers,
    dict(type='route', layers=[35]),
    dict(type='convolutional', filters=64, size=1, batch_normalize=True, activation='leaky'),
    dict(type='upsample', stride=2),
    dict(type='route', layers=[40, 15]),
    dict(type='convolutional', filters=128, size=3, batch_normalize=True, activation='leaky'),
    dict(type='convolutional', filters=255, size=1, activation='linear'),
    dict(type='yolo', anchors=3),
]

model = dict(
    backbone=dict(layers=layers, size=(size, size)),
    bbox_head=dict(encoder=dict(anchors=anchors, all_anchors=all_anchors, masks=masks)),
)

train_pipeline = _base_.train_pipeline
train_pipeline[0].size = (size, size)
test_pipeline = _base_.test_pipeline
test_pipeline[1].size = (size, size)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
