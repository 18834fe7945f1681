# YOLOv4-tiny of AlexeyAB's darknet, COCO, 416.
num_classes = 80
size = 416
# Anchor 0 belongs to no map and anchor 3 to both, as in the official cfg.
all_anchors = [(10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319)]
masks = [(3, 4, 5), (1, 2, 3)]
anchors = [[all_anchors[number] for number in mask] for mask in masks]

# one row per section of the cfg; `layers` are numbers of earlier rows
layers = [
    dict(
        type='convolutional', filters=32, size=3, stride=2, batch_normalize=True, activation='leaky'
    ),
    dict(
        type='convolutional', filters=64, size=3, stride=2, batch_normalize=True, activation='leaky'
    ),
    dict(type='convolutional', filters=64, size=3, batch_normalize=True, activation='leaky'),
    dict(type='route', layers=[2], groups=2, group_id=1),
    dict(type='convolutional', filters=32, size=3, batch_normalize=True, activation='leaky'),
    dict(type='convolutional', filters=32, size=3, batch_normalize=True, activation='leaky'),
    dict(type='route', layers=[5, 4]),
    dict(type='convolutional', filters=64, size=1, batch_normalize=True, activation='leaky'),
    dict(type='route', layers=[2, 7]),
    dict(type='maxpool', size=2, stride=2, padding=1),
    dict(type='convolutional', filters=128, size=3, batch_normalize=True, activation='leaky'),
    dict(type='route', layers=[10], groups=2, group_id=1),
    dict(type='convolutional', filters=64, size=3, batch_normalize=True, activation='leaky'),
    dict(type='convolutional', filters=64, size=3, batch_normalize=True, activation='leaky'),
    dict(type='route', layers=[13, 12]),
    dict(type='convolutional', filters=128, size=1, batch_normalize=True, activation='leaky'),
    dict(type='route', layers=[10, 15]),
    dict(type='maxpool', size=2, stride=2, padding=1),
    dict(type='convolutional', filters=256, size=3, batch_normalize=True, activation='leaky'),
    dict(type='route', layers=[18], groups=2, group_id=1),
    dict(type='convolutional', filters=128, size=3, batch_normalize=True, activation='leaky'),
    dict(type='convolutional', filters=128, size=3, batch_normalize=True, activation='leaky'),
    dict(type='route', layers=[21, 20]),
    dict(type='convolutional', filters=256, size=1, batch_normalize=True, activation='leaky'),
    dict(type='route', layers=[18, 23]),
    dict(type='maxpool', size=2, stride=2, padding=1),
    dict(type='convolutional', filters=512, size=3, batch_normalize=True, activation='leaky'),
    dict(type='convolutional', filters=256, size=1, batch_normalize=True, activation='leaky'),
    dict(type='convolutional', filters=512, size=3, batch_normalize=True, activation='leaky'),
    dict(type='convolutional', filters=255, size=1, activation='linear'),
    dict(type='yolo', anchors=3),
    dict(type='route', layers=[27]),
    dict(type='convolutional', filters=128, size=1, batch_normalize=True, activation='leaky'),
    dict(type='upsample', stride=2),
    dict(type='route', layers=[33, 23]),
    dict(type='convolutional', filters=256, size=3, batch_normalize=True, activation='leaky'),
    dict(type='convolutional', filters=255, size=1, activation='linear'),
    dict(type='yolo', anchors=3),
]

model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[0, 0, 0],
        std=[255, 255, 255],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(type='DarknetFromCfg', layers=layers, num_classes=num_classes),
    bbox_head=dict(
        type='EncodedDenseHead',
        predictor=dict(type='DarknetPredictor', detector='yolov4', num_classes=num_classes),
        encoder=dict(
            type='YOLOV4TargetEncoder',
            num_classes=num_classes,
            code='alexeyab',
            max_objects=200,
            anchors=anchors,
            all_anchors=all_anchors,
            masks=masks,
            scale_xy=1.05,
            iou_threshold=1.0,
        ),
        criterion=dict(
            type='YOLOV4Loss',
            code='alexeyab',
            box='ciou',
            gradient='darknet',
            iou_normalizer=0.07,
            ignore_threshold=0.7,
            max_delta=None,
            normalizer='images',
        ),
    ),
    # as YOLOv4's: every box above .001 counts
    test_cfg=dict(
        nms=dict(type='darknet_nms', iou_threshold=0.45, kind='diou', beta=0.6),
        score_thr=0.001,
        clip=True,
    ),
)
