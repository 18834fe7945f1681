"""The official trainings that recipes are compared with; see ``training_parity.py``.

Values come from the scripts, cfgs and option files of the repositories named in ``proof``.
"""

from __future__ import annotations

from typing import NamedTuple

INTRODUCTION = """# Training beside the official codes

Each full recipe beside the training that its target comes from. "equal" means: the value in the
config is the official one. A bold value differs; the official value follows, and the reason. The
page is generated: `python docs/training_parity.py`.

The proofs: losses, targets, decoding and networks equal golden numbers
(`python tools/check_parity.py --golden DIR`). The column "steps" has the number of training steps
that equal those of the official trainer through MMEngine's runner: rates, losses, weights, running
statistics and average (the same command; `tests/test_trajectories.py` holds one case per family).
"6 of ResNet-18" means: a recipe of the same trainer with ResNet-18 was compared, not this one. A
case with other hyper-parameters than its recipe is trained with its own, and the command prints
them.
Six updates of both darknet programs, from the official weights of YOLOv3-tiny and YOLOv4-tiny and
from random ones, equal ours too: rates, losses, printed numbers, weights, running statistics.
Augmentations marked "equal" pass a statistical test against 3,000 official draws
(`python tools/check_augmentation.py --all DIR`; the suite draws fewer).
Recipes of one code that differ in size share the transforms, and one of them was compared.
`python tools/check_augmentation.py --hard-images --draws 50000` draws from the training pipelines
on images without objects and with one, tiny and border objects; the suite draws 2,000 items of each
different pipeline.
darknet draws every image at random from all images; here each epoch is a shuffle of all images.

A batch is "images per update = GPUs x images per GPU"; batch norm sees the images of one GPU unless
it is synchronised. Official batches in chunks of unequal size ("49 = 4 + 9 x 5") average the losses
of the chunks equally. On as many GPUs, `official_split` of a recipe is the official split:

```python
_base_ = './cornernet_hg104_8xb6-500k_coco.py'
train_dataloader = dict(batch_sampler=dict(_delete_=True, **_base_.official_split))
```

Starting weights: torchvision publishes the same ResNets under new names, which count as equal. A
file of `checkpoints/` is converted once, as the README of the recipe describes.
"""

COLUMNS = dict(
    loss='loss',
    targets='targets',
    network='network',
    steps='steps',
    optimizer='optimizer',
    schedule='schedule',
    average='EMA',
    batch='batch, batch norm',
    augmentation='augmentation',
    start='starting weights',
    test='test protocol',
)
"""Field of :class:`Training` -> title of the column."""
STATED = ('loss', 'targets', 'network', 'steps', 'augmentation')
"""Columns that no value of a config shows."""


class Training(NamedTuple):
    """One official training; None where no official value exists, and ours is shown."""

    steps: str
    optimizer: str | None = None
    schedule: str | None = None
    average: str | None = 'none'
    batch: str | None = None
    augmentation: str = 'not measured'
    start: str | None = None
    test: str | None = None
    reasons: dict[str, str] = {}
    loss: str = 'equal'
    targets: str = 'equal'
    network: str = 'equal'


_ADAM = 'Adam {}'
_BY_SOURCE = 'as the source of the branch, not compared with draws'
_CORNER_TEST = 'score 0, official_soft_nms 0.5, 100 boxes'
_RESDCN101 = 'as ResNet-18, not compared alone'
_LIKE_RESNET18 = '6 of ResNet-18'
_SAME_BATCH = 'the same images per GPU on every GPU; official: `official_split`'
_RESNET18, _RESNET101 = '`resnet18-f37072fd.pth`', '`resnet101-63fe2227.pth`'
_DLA34 = '`dla34_imagenet.pth`'

CORNERNET = Training(
    '6',
    _ADAM.format('0.00025'),
    '500,000 updates, x 0.1 after 450,000',
    batch='49 = 4 + 9 x 5',
    augmentation='equal',
    start='random',
    test=_CORNER_TEST,
    reasons=dict(batch=_SAME_BATCH),
)
TRIPLET = CORNERNET._replace(
    schedule='480,000 updates, x 0.1 after 450,000', batch='48 = 8 x 6', reasons={}
)
_OWN_SPLIT = dict(batch=_SAME_BATCH)
POINTS = Training(
    _LIKE_RESNET18,
    _ADAM.format('0.0005'),
    '140 epochs, x 0.1 after 90, 120',
    augmentation='equal',
    start=_DLA34,
    test='score 0, 100 boxes',
    reasons=_OWN_SPLIT,
)
VOC_POINTS = POINTS._replace(
    optimizer=_ADAM.format('0.000125'),
    schedule='70 epochs, x 0.1 after 45, 60',
    batch='32 = 1 x 32',
)
HOURGLASS = POINTS._replace(
    optimizer=_ADAM.format('0.00025'),
    schedule='50 epochs, x 0.1 after 40',
    batch='24 = 4 + 4 x 5',
    start='`extremenet_hourglass.pth`',
)
POSE = POINTS._replace(steps='6', batch='128 = 9 + 7 x 17', start='`centernet_points_dla34_2x.pth`')
HOURGLASS_POSE = HOURGLASS._replace(steps='6 of DLA-34', start='`centernet_points_hg104.pth`')
TRACK = Training(
    '6',
    _ADAM.format('0.000125'),
    '70 epochs, x 0.1 after 60',
    batch='32 = 2 x 16',
    augmentation='equal',
    start='`epoch_140.pth`',
    test='score 0.4, 100 boxes',
)
KITTI = TRACK._replace(
    steps='6 of MOT17', batch='16 = 2 x 8', start='`centernet_points_dla34_nuscenes.pth`'
)
SSD = Training(
    '3',
    'SGD 0.001, momentum 0.9, decay 0.0005 of everything',
    '120,000 updates, x 0.1 after 80,000, 100,000',
    batch='32 = 1 x 32',
    augmentation='equal',
    start='`vgg16_reducedfc.pth`',
    test='score 0.01, nms 0.45, all boxes',
    reasons=dict(batch='no batch norm; the losses are divided over all GPUs'),
)
_NO_CAFFE = 'as the source, not compared with a run'
CAFFE_SSD = SSD._replace(
    steps='none',
    loss=_NO_CAFFE,
    targets=_NO_CAFFE,
    augmentation='as the source, not compared with draws',
    optimizer='SGD 0.001, momentum 0.9 that contains the rate, decay 0.0005 of kernels, '
    'rate of biases x 2',
    batch='32 = 4 x 8',
    test='score 0.01, nms 0.45, 200 boxes',
    reasons={},
)
MMDET_SSD = Training(
    'none',
    'SGD 0.002, momentum 0.9, decay 0.0005 of everything',
    '120 epochs, linear warm-up of 500 updates, x 0.1 after 80, 110',
    batch='64 = 8 x 8',
    augmentation="MMDetection's",
    start='`vgg16_caffe`',
    test='score 0.02, nms 0.45, 200 boxes',
)
_DARKNET_SGD = 'SGD {}, momentum {}, decay 0.0005 of kernels'
_BURN_IN = '{} updates, burn-in 1,000 (power 4), x 0.1 at {}, x 0.1 at {}'
_SUBDIVISIONS = 'darknet normalises each subdivision on one GPU'
REDMON = Training(
    '6 of YOLOv3-tiny',
    _DARKNET_SGD.format('0.001', '0.9'),
    _BURN_IN.format('500,200', '400,000', '450,000'),
    batch='64 = 16 subdivisions of 4',
    augmentation='equal',
    start='`darknet53`',
    test='score 0.005, nms 0.45, all boxes',
    reasons=dict(batch=_SUBDIVISIONS),
)
TINY = REDMON._replace(start=None)  # not published
YOLOV2 = REDMON._replace(
    steps='none', batch='64 = 8 subdivisions of 8', start='`darknet19_448.conv.pth`'
)
YOLOV4 = REDMON._replace(
    steps='6 of YOLOv4-tiny',
    optimizer=_DARKNET_SGD.format('0.0013', '0.949'),
    schedule=_BURN_IN.format('500,500', '400,000', '450,000'),
    batch='64 = 8 subdivisions of 8',
    start='`csdarknet53-omega.conv.pth`',
    test='score 0.001, darknet_nms diou 0.45, all boxes',
)
YOLOV4_TINY = YOLOV4._replace(
    optimizer=_DARKNET_SGD.format('0.00261', '0.9'),
    schedule=_BURN_IN.format('500,200', '400,000', '450,000'),
    batch='64 = 1 x 64',
    start=None,
    reasons=dict(batch='darknet normalises the 64 images together on one GPU'),
)
CSP = YOLOV4._replace(
    start=None,  # not published
    test='score 0.001, darknet_nms diou 0.6, all boxes',
    optimizer=_DARKNET_SGD.format('0.001', '0.949'),
    average='0.9998 from half of training, applied 1,000 updates before the end',
)
_SCALED_SCHEDULE = (
    '{} epochs, warm-up of 3 epochs (biases from 0.1, momentum from {}), cosine to {}'
)
SCALED = Training(
    '6',
    'SGD 0.01, Nesterov momentum 0.937, decay 0.0005 of kernels',
    _SCALED_SCHEDULE.format(300, 0.9, 0.2),
    '0.9999 (1 - exp(-u / 2000)) per update u, statistics included',
    batch='64 = 4 x 16, synchronised',
    augmentation='equal',
    start='random',
    test='score 0.001, nms 0.65, 300 boxes',
    reasons=dict(batch='the same 64 images, normalised together'),
)
_AS_P6 = 'as P6, not compared alone'
SECOND_STAGE = SCALED._replace(
    steps='6 of the first stage of P6',
    schedule=_SCALED_SCHEDULE.format(450, 0.9, 0.2),
    start='`epoch_298.pth`',
)
RETINANET = Training(
    'none',
    'SGD 0.01, momentum 0.9, decay 0.0001 of everything',
    '12 epochs, linear warm-up of 500 updates, x 0.1 after 8, 11',
    batch='16 = 8 x 2',
    augmentation="MMDetection's",
    start='`resnet50-0676ba61.pth`',
    test='score 0.05, nms 0.5, 100 boxes',
    **dict.fromkeys(('loss', 'targets', 'network'), "equal to MMDetection's"),
)
RETINANET_2X = RETINANET._replace(
    schedule='24 epochs, linear warm-up of 500 updates, x 0.1 after 16, 22'
)

OFFICIAL = {
    'cornernet/*': CORNERNET,
    'cornernet_squeeze/*': CORNERNET._replace(batch='55 = 13 + 3 x 14'),
    'cornernet_saccade/*': CORNERNET._replace(
        batch='48 = 4 x 12', test='score 0, official_soft_nms 0.7, 100 boxes'
    ),
    'centernet_triplet/*': TRIPLET,
    'centernet_points/*resdcn18*voc*': VOC_POINTS._replace(steps='6', start=_RESNET18),
    'centernet_points/*resdcn101*384*voc*': VOC_POINTS._replace(
        network=_RESDCN101, batch='32 = 2 x 16', start=_RESNET101
    ),
    'centernet_points/*resdcn101*512*voc*': VOC_POINTS._replace(
        network=_RESDCN101, batch='32 = 4 x 8', start=_RESNET101
    ),
    'centernet_points/*512*voc*': VOC_POINTS._replace(batch='32 = 2 x 16'),
    'centernet_points/*voc*': VOC_POINTS,
    'centernet_points/*resdcn18*': POINTS._replace(
        steps='6', batch='114 = 18 + 3 x 32', start=_RESNET18
    ),
    'centernet_points/*resdcn101*': POINTS._replace(
        network=_RESDCN101,
        optimizer=_ADAM.format('0.000375'),
        batch='96 = 5 + 7 x 13',
        start=_RESNET101,
    ),
    'centernet_points/*230e*': POINTS._replace(
        schedule='230 epochs, x 0.1 after 180, 210', batch='128 = 9 + 7 x 17'
    ),
    'centernet_points/*hg104*': HOURGLASS,
    'centernet_points/*plain*': POINTS._replace(
        network='as DLA-34, plain convolutions were not compared', batch='128 = 9 + 7 x 17'
    ),
    'centernet_points/*': POINTS._replace(batch='128 = 9 + 7 x 17'),
    'centernet_pose/*dla34*320e*': POSE._replace(schedule='320 epochs, x 0.1 after 270, 300'),
    'centernet_pose/*dla34*': POSE,
    'centernet_pose/*150e*': HOURGLASS_POSE._replace(schedule='150 epochs, x 0.1 after 130'),
    'centernet_pose/*': HOURGLASS_POSE,
    'centertrack/*crowdhuman*': TRACK._replace(
        optimizer=_ADAM.format('0.00025'),
        schedule='140 epochs, x 0.1 after 90, 120',
        batch='64 = 4 x 16',
        start=_DLA34,
    ),
    'centertrack/*kitti*scratch*': KITTI._replace(start=_DLA34),
    'centertrack/*kitti-half*': KITTI,
    'centertrack/*kitti*': KITTI._replace(test='score 0.4, 100 boxes, flip test'),
    'centertrack/*coco_pose*': TRACK._replace(
        steps='none',
        loss='equal to a loop',
        targets='equal to a loop',
        optimizer=_ADAM.format('0.0005'),
        batch='128 = 8 x 16',
        start='`centernet_pose_dla34_3x.pth`',
        test='score 0.3, 100 boxes',
    ),
    'centertrack/*coco*': TRACK._replace(
        steps='6 of MOT17',
        optimizer=_ADAM.format('0.0005'),
        batch='128 = 8 x 16',
        start='`centernet_points_dla34_2x.pth`',
        test='score 0.3, 100 boxes',
    ),
    'centertrack/*scratch*': TRACK._replace(start=_DLA34),
    'centertrack/*': TRACK,
    'ssd/*caffe*': CAFFE_SSD,
    'ssd/*voc*': SSD,
    'ssd/*': MMDET_SSD,
    'retinanet/*r18*': RETINANET._replace(start=_RESNET18),
    'retinanet/*r101*24e*': RETINANET_2X._replace(start=_RESNET101),
    'retinanet/*r101*': RETINANET._replace(start=_RESNET101),
    'retinanet/*x101*24e*': RETINANET_2X._replace(start='`resnext101_64x4d`'),
    'retinanet/*x101*': RETINANET._replace(start='`resnext101_64x4d`'),
    'retinanet/*24e*': RETINANET_2X,
    'retinanet/*': RETINANET,
    'yolov1/*': REDMON._replace(
        steps='none',
        optimizer=_DARKNET_SGD.format('0.0005', '0.9'),
        schedule='40,000 updates, x 2.5 at 200, x 2.0 at 400, x 2.0 at 600, x 0.1 at 20,000, '
        'x 0.1 at 30,000',
        batch='64 = 8 subdivisions of 8',
        start='`extraction.conv.pth`',
        test='score 0.001, nms 0.5, all boxes',
    ),
    'yolov2/*tiny*voc*': TINY._replace(
        steps='none',
        schedule='40,200 updates, x 0.1 at -1, x 10 at 100, x 0.1 at 20,000, x 0.1 at 30,000',
        batch='not in the cfg',
    ),
    'yolov2/*tiny*': TINY._replace(steps='none', batch='not in the cfg'),
    'yolov2/*voc*': YOLOV2._replace(schedule=_BURN_IN.format('80,200', '40,000', '60,000')),
    'yolov2/*': YOLOV2,
    'yolov3/*3l*': TINY._replace(
        test=None,  # AlexeyAB's
        schedule=_BURN_IN.format('200,000', '180,000', '190,000'),
    ),
    'yolov3/*prn*': TINY._replace(batch='64 = 8 subdivisions of 8', test=None),  # AlexeyAB's
    'yolov3/*tiny*': TINY._replace(steps='6', batch='not in the cfg'),
    'yolov3/*voc*': REDMON._replace(schedule=_BURN_IN.format('50,200', '40,000', '45,000')),
    'yolov3/*': REDMON,
    'yolov4/*pacsp*': SCALED._replace(
        steps='6 of YOLOv4',
        network='not compared',
        schedule=_SCALED_SCHEDULE.format(300, 0.8, 0.1),
        augmentation=_BY_SOURCE,
    ),
    'yolov4/*300e*': SCALED._replace(
        schedule=_SCALED_SCHEDULE.format(300, 0.8, 0.1), augmentation=_BY_SOURCE
    ),
    'yolov4/*swish*': CSP._replace(network='as yolov4-csp, Swish was not compared'),
    'yolov4/*x-mish*': CSP._replace(average='none'),
    'yolov4/*tiny-3l*': YOLOV4_TINY,
    'yolov4/*tiny*': YOLOV4_TINY._replace(steps='6'),
    'yolov4/yolov4-*': CSP,
    'yolov4/*': YOLOV4,
    'scaled_yolov4/*p7*finetune*': SECOND_STAGE._replace(network=_AS_P6),
    'scaled_yolov4/*finetune*': SECOND_STAGE,
    'scaled_yolov4/*p7*': SCALED._replace(steps='6 of P6', network=_AS_P6),
    'scaled_yolov4/*p5*': SCALED._replace(steps='6 of P6'),
    'scaled_yolov4/*csp-cfg*': SCALED._replace(
        schedule=_SCALED_SCHEDULE.format(300, 0.8, 0.2), augmentation=_BY_SOURCE
    ),
    'scaled_yolov4/*': SCALED,
}
"""Pattern of a path below ``configs/`` -> its official training; the first match counts."""
