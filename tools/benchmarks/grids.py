"""Times of the anchor and grid families and of IoU losses, compared with MMDetection."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet_losses.registry import MODELS, TASK_UTILS
from tools.benchmarks.timing import Line, against, boxes_like_coco

BARS = {'SSD': 2.0, 'YOLOV3': 4.0, 'RetinaNet': 1.5, 'IoU': 1.0}
PAIRS = (1_000, 20_000)
MODES = {'iou': 'IoULoss', 'giou': 'GIoULoss', 'diou': 'DIoULoss', 'ciou': 'CIoULoss'}


class GridSetting(NamedTuple):
    """Size of a benchmark."""

    images: int
    classes: int
    side: int
    """Side of the square input in pixels."""
    objects: int

    def __str__(self) -> str:
        return f'{self.images} x {self.side} px, {self.classes} classes, {self.objects} objects'


class Family(NamedTuple):
    """Settings of one detector, for both libraries."""

    encoder: dict
    criterion: dict
    head: dict
    train_cfg: dict
    depths: Callable[[int], tuple[tuple[int, ...], ...]]
    """Number of classes -> channels of every map, one tuple per field of the outputs."""
    sides: Callable[[int], tuple[int, ...]]
    """Side of the input -> side of every map."""


SSD_ANCHORS = (4, 6, 6, 6, 4, 4)
MAX_IOU = dict(type='MaxIoUAssigner', min_pos_iou=0.0, ignore_iof_thr=-1)
COMMON = dict(sampler=dict(type='PseudoSampler'), allowed_border=-1, pos_weight=-1, debug=False)


def strided(*strides: int) -> Callable[[int], tuple[int, ...]]:
    """Function that returns the side of a map for each stride."""
    return lambda side: tuple(-(-side // stride) for stride in strides)


FAMILIES = {
    'SSD': Family(
        encoder=dict(type='SSDTargetEncoder'),
        criterion=dict(type='SSDLoss'),
        head=dict(
            type='mmdet.SSDHead',
            anchor_generator=dict(
                type='SSDAnchorGenerator',
                scale_major=False,
                input_size=300,
                basesize_ratio_range=(0.2, 0.9),
                strides=[8, 16, 32, 64, 100, 300],
                ratios=[[2], [2, 3], [2, 3], [2, 3], [2], [2]],
            ),
            bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2]),
        ),
        train_cfg=dict(
            assigner=dict(MAX_IOU, pos_iou_thr=0.5, neg_iou_thr=0.5, gt_max_assign_all=False),
            smoothl1_beta=1.0,
            neg_pos_ratio=3,
            **COMMON,
        ),
        depths=lambda classes: (
            tuple(count * (classes + 1) for count in SSD_ANCHORS),
            tuple(count * 4 for count in SSD_ANCHORS),
        ),
        sides=lambda side: (38, 19, 10, 5, 3, 1),
    ),
    'RetinaNet': Family(
        encoder=dict(type='RetinaNetTargetEncoder'),
        criterion=dict(type='RetinaNetLoss'),
        head=dict(
            type='mmdet.RetinaHead',
            in_channels=1,
            feat_channels=1,
            stacked_convs=0,
            anchor_generator=dict(
                type='AnchorGenerator',
                octave_base_scale=4,
                scales_per_octave=3,
                ratios=[0.5, 1.0, 2.0],
                strides=[8, 16, 32, 64, 128],
            ),
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
            loss_bbox=dict(type='L1Loss'),
        ),
        train_cfg=dict(assigner=dict(MAX_IOU, pos_iou_thr=0.5, neg_iou_thr=0.4), **COMMON),
        depths=lambda classes: ((9 * classes,) * 5, (36,) * 5),
        sides=strided(8, 16, 32, 64, 128),
    ),
    'YOLOV3': Family(
        encoder=dict(type='YOLOV3TargetEncoder'),
        criterion=dict(type='YOLOV3Loss'),
        head=dict(
            type='mmdet.YOLOV3Head',
            in_channels=[1, 1, 1],
            out_channels=[1, 1, 1],
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, reduction='sum'),
            loss_conf=dict(type='CrossEntropyLoss', use_sigmoid=True, reduction='sum'),
            loss_xy=dict(
                type='CrossEntropyLoss', use_sigmoid=True, loss_weight=2.0, reduction='sum'
            ),
            loss_wh=dict(type='MSELoss', loss_weight=2.0, reduction='sum'),
        ),
        train_cfg=dict(
            assigner=dict(type='GridAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0)
        ),
        depths=lambda classes: ((3 * (5 + classes),) * 3,),
        sides=strided(32, 16, 8),
    ),
}
SETTINGS = {
    'SSD': GridSetting(8, 80, 300, 15),
    'RetinaNet': GridSetting(8, 80, 512, 15),
    'YOLOV3': GridSetting(8, 80, 416, 15),
}


def family_pair(name: str, setting: GridSetting, device: str = 'cpu') -> tuple[Callable, Callable]:
    """Encoding and loss, forward and backward, from given outputs: ours and MMDetection's."""
    family = FAMILIES[name]
    generator = torch.Generator().manual_seed(0)
    batch = boxes_like_coco(setting.images, setting.objects, setting.classes, setting.side)
    gt_instances = [each.to(device) for each in batch]
    fields = [
        tuple(
            (0.5 * torch.randn(setting.images, depth, side, side, generator=generator) - 1)
            .to(device)
            .requires_grad_()
            for depth, side in zip(depths, family.sides(setting.side), strict=True)
        )
        for depths in family.depths(setting.classes)
    ]
    leaves = [each for field in fields for each in field]
    encoder = TASK_UTILS.build(dict(family.encoder, num_classes=setting.classes))
    criterion = MODELS.build(family.criterion).to(device)
    head = _their_head(family, setting.classes).to(device)
    shape = (setting.side, setting.side, 3)
    metas = [dict(img_shape=shape, pad_shape=shape, batch_input_shape=shape[:2])] * setting.images

    def ours() -> None:
        outputs = encoder.outputs_type(*fields)
        targets = encoder.encode(gt_instances, encoder.feat_sizes(outputs), shape[:2])
        _gradients(criterion(outputs, targets), leaves)

    def theirs() -> None:
        copies = [InstanceData(bboxes=each.bboxes, labels=each.labels) for each in gt_instances]
        _gradients(head.loss_by_feat(*(list(field) for field in fields), copies, metas), leaves)

    return ours, theirs


def _their_head(family: Family, classes: int) -> nn.Module:
    return MODELS.build(
        dict(family.head, num_classes=classes, train_cfg=ConfigDict(family.train_cfg))
    )


def _gradients(losses: dict, leaves: list[Tensor]) -> None:
    terms = [each for value in losses.values() for each in _as_list(value)]
    torch.autograd.grad(sum(terms), leaves)


def _as_list(value: Tensor | list) -> list[Tensor]:
    return list(value) if isinstance(value, list | tuple) else [value]


def anchor_lines(repeats: int) -> list[Line]:
    """Encoding and loss of SSD, RetinaNet and YOLOv3, compared with MMDetection's heads."""
    return [
        against(f'encode + loss {name}', setting, *family_pair(name, setting), repeats, BARS[name])
        for name, setting in SETTINGS.items()
    ]


def iou_lines(repeats: int) -> list[Line]:
    """IoU losses of paired boxes, with and without the gradient."""
    return [
        against(
            f'{mode} loss, {what}',
            f'{count} pairs',
            *(partial(run, loss, *boxes) for loss in iou_losses(mode)),
            20 * repeats,
            BARS['IoU'],
        )
        for count, boxes in ((count, box_pairs(count)) for count in PAIRS)
        for mode in MODES
        for what, run in (('forward', _forward), ('and gradient', _backward))
    ]


def box_pairs(count: int) -> tuple[Tensor, Tensor]:
    """Predicted boxes that require gradients, and target boxes near them."""
    pred = torch.cat([each.bboxes for each in boxes_like_coco(count // 100, 100, 80, 512, 1)])
    moved = pred + 8 * torch.randn(pred.shape, generator=torch.Generator().manual_seed(2))
    target = torch.cat((moved[:, :2], torch.maximum(moved[:, 2:], moved[:, :2] + 1)), 1)
    return pred.requires_grad_(), target


def iou_losses(mode: str) -> tuple[nn.Module, nn.Module]:
    """Our loss and MMDetection's."""
    extra = dict(mode='linear') if mode == 'iou' else {}
    ours = MODELS.build(dict(type='BoxIoULoss', mode=mode))
    return ours, MODELS.build(dict(type=f'mmdet.{MODES[mode]}', **extra))


def _forward(loss: nn.Module, pred: Tensor, target: Tensor) -> None:
    with torch.no_grad():
        loss(pred, target)


def _backward(loss: nn.Module, pred: Tensor, target: Tensor) -> None:
    torch.autograd.grad(loss(pred, target), pred)


def growth_lines(repeats: int) -> list[Line]:
    """Our encoding and loss for growing numbers of objects and images."""
    few = max(repeats // 4, 3)
    lines = []
    for name, setting in SETTINGS.items():
        start = setting._replace(images=4)
        settings = [start._replace(objects=n) for n in (1, 15, 60, 120)]
        settings += [start._replace(images=n) for n in (1, 4, 16)]
        lines += [
            against(f'growth: {name}', each, family_pair(name, each)[0], None, few)
            for each in settings
        ]
    return lines
