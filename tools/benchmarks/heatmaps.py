"""Times of the heatmap families: focal loss, targets and heads, compared with MMDetection."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.detectors.corner.contracts import Keypoint
from mmdet_losses.registry import MODELS, TASK_UTILS
from tools.benchmarks.timing import Line, against, boxes_like_coco

BARS = {'focal': 7.0, 'encode CornerNet': 15.0, 'encode CenterNetPoints': 25.0, 'head': 8.0}


class Setting(NamedTuple):
    """Size of a benchmark."""

    images: int
    classes: int
    side: int
    """Side of the square output map; the input is four times as large."""
    objects: int

    def __str__(self) -> str:
        return f'{self.images} x {self.classes} x {self.side} x {self.side}, {self.objects} objects'


def ground_truth(setting: Setting, seed: int = 0) -> list[InstanceData]:
    """Boxes with sizes as in COCO."""
    return boxes_like_coco(setting.images, setting.objects, setting.classes, 4 * setting.side, seed)


def logits_like(setting: Setting) -> Tensor:
    """Heatmap logits as early in training: nearly all scores are low."""
    generator = torch.Generator().manual_seed(1)
    shape = (setting.images, setting.classes, setting.side, setting.side)
    return torch.randn(shape, generator=generator) - 2.19


def points_encoder(setting: Setting):
    return TASK_UTILS.build(dict(type='CenterNetPointsTargetEncoder', num_classes=setting.classes))


def encode(encoder, setting: Setting, gt_instances: list[InstanceData]):
    sides = (setting.side, setting.side)
    return encoder.encode(gt_instances, [sides], (4 * setting.side, 4 * setting.side))


def focal_pair(setting: Setting, compile: bool = False) -> tuple[Callable, Callable]:
    """Forward and backward of our loss on splats, and of MMDetection's on the dense map.

    Our loss gets other objects in each call, as in training, so the number of splats changes.
    """
    targets = [
        encode(points_encoder(setting), setting, ground_truth(setting, seed)).heatmap
        for seed in range(5)
    ]
    batches = itertools.cycle(targets)
    dense, logits = targets[0].dense(), logits_like(setting).requires_grad_()
    ours = MODELS.build(dict(type='PenaltyReducedFocalLoss', compile=compile))
    theirs = MODELS.build(dict(type='mmdet.GaussianFocalLoss'))
    count = int((dense == 1).sum())

    def run_ours() -> None:
        torch.autograd.grad(ours(logits, next(batches)), logits)

    def run_theirs() -> None:
        score = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
        torch.autograd.grad(theirs(score, dense, avg_factor=count), logits)

    for _ in targets:  # a compiled loss compiles here
        run_ours()
    return run_ours, run_theirs


def focal_lines(repeats: int, compiled: bool) -> list[Line]:
    setting = Setting(4, 80, 128, 15)
    ours, theirs = focal_pair(setting)
    lines = [against('focal', setting, ours, theirs, repeats, BARS['focal'])]
    if compiled:
        fused, _ = focal_pair(setting, compile=True)
        lines.append(against('focal, compile', setting, fused, theirs, repeats, BARS['focal']))
    return lines


def limit_lines(repeats: int) -> list[Line]:
    """Lower limits of the loss: time of memory access and of arithmetic."""
    setting = Setting(4, 80, 128, 15)
    logits = logits_like(setting)
    out = torch.empty_like(logits)
    return [
        against('limit: read and write the map', setting, lambda: out.copy_(logits), None, repeats),
        against(
            'limit: sigmoid and softplus',
            setting,
            lambda: (torch.sigmoid(logits, out=out), F.softplus(logits)),
            None,
            repeats,
        ),
    ]


def their_corner_head(classes: int):
    return MODELS.build(
        dict(
            type='mmdet.CornerHead',
            num_classes=classes,
            in_channels=1,
            num_feat_levels=1,
            loss_heatmap=dict(type='GaussianFocalLoss', alpha=2.0, gamma=4.0, loss_weight=1),
            loss_embedding=dict(type='AssociativeEmbeddingLoss', pull_weight=0.1, push_weight=0.1),
            loss_offset=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1),
        )
    )


def their_center_head(classes: int):
    return MODELS.build(
        dict(type='mmdet.CenterNetHead', in_channels=1, feat_channels=1, num_classes=classes)
    )


def encode_pairs(setting: Setting) -> dict[str, tuple[Callable, Callable]]:
    gt_instances = ground_truth(setting)
    boxes, labels = [each.bboxes for each in gt_instances], [each.labels for each in gt_instances]
    shape = (setting.images, setting.classes, setting.side, setting.side)
    image = (4 * setting.side, 4 * setting.side, 3)
    corner, center = their_corner_head(setting.classes), their_center_head(setting.classes)
    corners = TASK_UTILS.build(dict(type='CornerNetTargetEncoder', num_classes=setting.classes))
    points = points_encoder(setting)
    return {
        'CornerNet': (
            lambda: encode(corners, setting, gt_instances),
            lambda: corner.get_targets(boxes, labels, shape, image, with_corner_emb=True),
        ),
        'CenterNetPoints': (
            lambda: encode(points, setting, gt_instances),
            lambda: center.get_targets(boxes, labels, shape, image),
        ),
    }


def encode_lines(repeats: int) -> list[Line]:
    lines = []
    for objects in (7, 40):
        setting = Setting(16, 80, 128, objects)
        for name, (ours, theirs) in encode_pairs(setting).items():
            bar = BARS[f'encode {name}']
            lines.append(against(f'encode {name}', setting, ours, theirs, repeats, bar))
    return lines


def head_pairs(setting: Setting, device: str = 'cpu') -> dict[str, tuple[Callable, Callable]]:
    """Encoding and loss, forward and backward, from given outputs."""
    gt_instances = [each.to(device) for each in ground_truth(setting)]
    heat = logits_like(setting).to(device)
    image = 4 * setting.side
    shape = (image, image, 3)
    metas = [dict(img_shape=shape, pad_shape=shape, batch_input_shape=shape[:2])] * setting.images
    generator = torch.Generator().manual_seed(2)

    def maps(channels: int) -> Tensor:
        shape = (setting.images, channels, setting.side, setting.side)
        return torch.randn(shape, generator=generator).to(device).requires_grad_()

    corner, center = their_corner_head(setting.classes), their_center_head(setting.classes)
    corners = TASK_UTILS.build(dict(type='CornerNetTargetEncoder', num_classes=setting.classes))
    points = points_encoder(setting)
    corner_loss = MODELS.build(dict(type='CornerNetLoss'))
    point_loss = MODELS.build(dict(type='CenterNetPointsLoss'))
    heats = [heat.clone().requires_grad_() for _ in range(2)]
    embeddings, offsets, size = [maps(1), maps(1)], [maps(2), maps(2)], maps(2)

    def step(losses: dict, leaves: list[Tensor]) -> None:
        total = sum(sum(value) if isinstance(value, list) else value for value in losses.values())
        torch.autograd.grad(total, leaves)

    def our_corner() -> None:
        outputs = corners.outputs_type(*map(Keypoint, heats, embeddings, offsets))
        step(
            corner_loss(outputs, encode(corners, setting, gt_instances)),
            [*heats, *embeddings, *offsets],
        )

    def their_corner() -> None:
        lists = [[each] for each in (*heats, *embeddings, *offsets)]
        step(corner.loss_by_feat(*lists, gt_instances, metas), [*heats, *embeddings, *offsets])

    def our_points() -> None:
        outputs = points.outputs_type(heats[0], size, offsets[0])
        leaves = [heats[0], size, offsets[0]]
        step(point_loss(outputs, encode(points, setting, gt_instances)), leaves)

    def their_points() -> None:
        scores = heats[0].sigmoid()  # as its forward does
        losses = center.loss_by_feat([scores], [size], [offsets[0]], gt_instances, metas)
        step(losses, [heats[0], size, offsets[0]])

    return {'CornerNet': (our_corner, their_corner), 'CenterNetPoints': (our_points, their_points)}


def head_lines(repeats: int) -> list[Line]:
    setting = Setting(8, 80, 128, 15)
    return [
        against(f'encode + loss {name}', setting, *pair, max(repeats // 2, 3), BARS['head'])
        for name, pair in head_pairs(setting).items()
    ]


def growth_lines(repeats: int) -> list[Line]:
    """Our CenterNetPoints for growing numbers of classes and objects, and growing resolution."""
    start = Setting(2, 80, 128, 15)
    settings = [start._replace(classes=c) for c in (20, 80, 365, 1200)]
    settings += [start._replace(objects=n) for n in (1, 15, 60, 120)]
    settings += [start._replace(side=s) for s in (64, 128, 256)]
    few = max(repeats // 4, 3)
    return [
        against('growth: CenterNetPoints', s, head_pairs(s)['CenterNetPoints'][0], None, few)
        for s in settings
    ]
