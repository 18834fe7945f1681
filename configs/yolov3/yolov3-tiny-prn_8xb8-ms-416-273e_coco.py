# YOLOv3-tiny-PRN, COCO, trained at 320 to 608, tested at 416: yolov3-tiny-prn.cfg of AlexeyAB's
# darknet with its rules.
# Target: 33.1 AP50 on COCO at 416 (darknet's README).
_base_ = './yolov3-tiny_8xb8-ms-416-273e_coco.py'

size = 416
# Anchor 0 belongs to no map and anchor 3 to both, as in the official cfg.
all_anchors = [(10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319)]
masks = [(3, 4, 5), (1, 2, 3)]
anchors = [[all_anchors[number] for number in mask] for mask in masks]

layers = [
    *_base_.layers[:12],
    dict(type='convolutional', filters=512, size=3, batch_normalize=True, activation='leaky'),
    dict(type='shortcut', layers=[9], activation='leaky'),
    dict(type='convolutional', filters=256, size=1, batch_normalize=True, activation='leaky'),
    dict(type='convolutional', filters=256, size=3, batch_normalize=True, activation='leaky'),
    dict(type='shortcut', layers=[14], activation='leaky'),
    dict(type='convolutional', filters=255, size=1, activation='linear'),
    dict(type='yolo', anchors=3),
    dict(type='route', layers=[15]),
    dict(type='convolutional', filters=128, size=1, batch_normalize=True, activation='leaky'),
    dict(type='upsample', stride=2),
    dict(type='shortcut', layers=[8], activation='leaky'),
    dict(type='convolutional', filters=128, size=3, batch_normalize=True, activation='leaky'),
    dict(type='shortcut', layers=[22], activation='leaky'),
    dict(type='shortcut', layers=[8], activation='leaky'),
    dict(type='convolutional', filters=255, size=1, activation='linear'),
    dict(type='yolo', anchors=3),
]

model = dict(
    backbone=dict(layers=layers),
    bbox_head=dict(
        encoder=dict(
            anchors=anchors,
            all_anchors=all_anchors,
            masks=masks,
            code='alexeyab',
            max_objects=200,
        ),
        criterion=dict(code='alexeyab'),
    ),
)

train_pipeline = [
    dict(
        type='DarknetJitter',
        size=(size, size),
        jitter=0.3,
        hue=0.1,
        saturation=1.5,
        exposure=1.5,
        max_objects=200,
    ),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='DarknetResize', size=(size, size)),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    batch_sampler=dict(code='alexeyab', size=size), dataset=dict(pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
