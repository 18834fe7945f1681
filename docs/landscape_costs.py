"""Costs as functions of one number: our terms and criteria, and MMDetection's losses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from mmdet.models.losses import (
    AssociativeEmbeddingLoss,
    CIoULoss,
    DIoULoss,
    FocalLoss,
    GaussianFocalLoss,
    GIoULoss,
    IoULoss,
    MSELoss,
)
from mmengine.hub import get_config
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mmdet_losses  # noqa: F401  (registers what `build` builds)
from mmdet_losses.losses import (
    box_iou_loss,
    center_track_focal_loss,
    hard_negative_cross_entropy_loss,
    heatmap_mse_loss,
    masked_weighted_l1_loss,
    penalty_reduced_focal_loss,
    pull_push_loss,
    sigmoid_focal_loss,
)
from mmdet_losses.registry import MODELS, TASK_UTILS
from tests.cases import LOSSES

Cost = Callable[[Tensor], Tensor]
SSD_RECIPE, YOLOV3_RECIPE = 'ssd/ssd300_coco', 'yolo/yolov3_d53_8xb8-ms-608-273e_coco'


def heatmap_cell(target: float, clamp: float | None) -> Cost:
    """Our cost of one cell of a heatmap."""

    def cost(x: Tensor) -> Tensor:
        map_ = x.view(1, 1, 1, 1)
        return penalty_reduced_focal_loss(
            map_, torch.full_like(map_, target), clamp=clamp, reduction='none'
        ).sum()

    return cost


def mmdet_cell(target: float) -> Cost:
    """MMDetection's cost of one cell: sigmoid, clamp, GaussianFocalLoss."""
    loss = GaussianFocalLoss(reduction='sum')

    def cost(x: Tensor) -> Tensor:
        score = x.sigmoid().clamp(1e-4, 1 - 1e-4).view(1)
        return loss(score, torch.full_like(score, target))

    return cost


def track_cell(objects: int, clamp: float | None = None) -> Cost:
    """CenterTrack's cost of one cell with ``objects`` objects of its class."""

    def cost(x: Tensor) -> Tensor:
        map_ = x.view(1, 1, 1, 1)
        target = torch.full_like(map_, float(objects > 0))
        index = torch.zeros(1, 2, dtype=torch.int64)
        mask = torch.arange(2)[None] < objects
        return center_track_focal_loss(
            map_, target, index, index, mask, clamp=clamp, reduction='sum'
        )

    return cost


def squared_cell(activated: bool, theirs: bool = False) -> Cost:
    """Squared error of one cell of a heatmap, target 1."""

    def cost(x: Tensor) -> Tensor:
        if theirs:
            score = (x if activated else x.sigmoid()).view(1)
            return MSELoss()(score, torch.ones(1))
        map_ = x.view(1, 1, 1, 1)
        return heatmap_mse_loss(map_, torch.ones_like(map_), activated=activated)

    return cost


def anchor_class(positive: bool, theirs: bool) -> Cost:
    """Sigmoid focal cost of one anchor with one class."""

    def cost(x: Tensor) -> Tensor:
        label = torch.tensor([0 if positive else 1])
        if theirs:
            return FocalLoss(use_sigmoid=True, reduction='sum')(x.view(1, 1), label)
        return sigmoid_focal_loss(x.view(1, 1), label, reduction='none').sum()

    return cost


@cache
def mmdet_head(recipe: str) -> Any:
    """MMDetection's head of a recipe, with one class and one input channel per level."""
    model = get_config(f'mmdet::{recipe}.py').model
    head = model.bbox_head
    head.update(num_classes=1, in_channels=[1] * len(head.in_channels), train_cfg=model.train_cfg)
    if 'out_channels' in head:
        head.out_channels = head.in_channels
    return MODELS.build(head)


def prior_class(positive: bool, kind: Literal['ours', 'theirs', 'plain'] = 'ours') -> Cost:
    """Softmax cost of one prior with one class, beside an object and four background priors.

    The cost of the other priors, if this prior is not mined, is subtracted.
    """

    def total(x: Tensor) -> Tensor:
        others = torch.tensor([0.0, 0.0, -1.0, -2.0, -3.0])
        own = torch.cat((others, x.view(1)))
        logits = torch.stack((own, torch.zeros_like(own)), -1)
        labels = torch.tensor([0, 1, 1, 1, 1, 0 if positive else 1])
        if kind == 'ours':
            return hard_negative_cross_entropy_loss(logits[None], labels[None], reduction='sum')
        if kind == 'plain':
            return F.cross_entropy(logits, labels, reduction='sum')
        boxes = torch.zeros(6, 4)
        head = mmdet_head(SSD_RECIPE)
        return head.loss_by_feat_single(
            logits, boxes, boxes, labels, torch.ones(6), boxes, boxes, avg_factor=1
        )[0].sum()

    rest = total(torch.tensor(100.0 if positive else -100.0))
    return lambda x: total(x) - rest


def moved_box(mode: str, theirs: bool, wider: bool = False) -> Cost:
    """IoU cost of a box that is shifted right by x widths, or scaled to 2^x of its width."""
    official = dict(giou=GIoULoss, diou=DIoULoss, ciou=CIoULoss)

    def cost(x: Tensor) -> Tensor:
        target = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
        if wider:
            half = 5 * 2**x
            box = torch.stack((5 - half, x * 0, 5 + half, x * 0 + 20))[None]
        else:
            box = torch.stack((10 * x, x * 0, 10 * x + 10, x * 0 + 14))[None]
        if theirs and mode == 'iou':
            return IoULoss(mode='linear', reduction='sum')(box, target)
        if theirs:
            return official[mode](reduction='sum')(box, target)
        return box_iou_loss(box, target, mode=mode, reduction='sum')

    return cost


def embeddings(part: int, eps: float = 1e-4, theirs: bool = False) -> Cost:
    """Pull (part 0) of two embeddings with distance x; push (part 1) of two such objects."""

    def cost(x: Tensor) -> Tensor:
        zero = torch.zeros_like(x)
        top, bottom = (zero, zero), (x, zero)
        if part:
            top = bottom = (zero, x)
        if theirs:
            loss = AssociativeEmbeddingLoss(pull_weight=1.0, push_weight=1.0)
            maps = (torch.stack(row).view(1, 1, 1, 2) for row in (top, bottom))
            return loss(*maps, [[[[0, i], [0, i]] for i in range(1 + part)]])[part]
        rows = (torch.stack(row)[None] for row in (top, bottom))
        return pull_push_loss(*rows, torch.tensor([[True, bool(part)]]), eps=eps)[part]

    return cost


def lone_push(eps: float, theirs: bool = False) -> Cost:
    """Push of an image with one object."""

    def cost(x: Tensor) -> Tensor:
        if theirs:
            map_ = x.view(1, 1, 1, 1)
            return AssociativeEmbeddingLoss(push_weight=1.0)(map_, map_, [[[[0, 0], [0, 0]]]])[1]
        return pull_push_loss(x.view(1, 1), x.view(1, 1), torch.tensor([[True]]), eps=eps)[1]

    return cost


def distance(term: Callable, **options: float) -> Cost:
    """A masked term over one value with target zero."""

    def cost(x: Tensor) -> Tensor:
        pred = x.view(1, 1, 1)
        return term(pred, torch.zeros_like(pred), torch.ones(1, 1).bool(), **options)

    return cost


def weighted(weight: float) -> Cost:
    """Masked weighted L1 of one value, not divided."""

    def cost(x: Tensor) -> Tensor:
        pred, factor = x.view(1, 1, 1), torch.full((1, 1, 1), weight)
        return masked_weighted_l1_loss(pred, torch.zeros_like(pred), factor, reduction='sum')

    return cost


def plain(loss: Callable[[Tensor, Tensor], Tensor], target: float = 0.0) -> Cost:
    """An element-wise loss of MMDetection over one value."""

    def cost(x: Tensor) -> Tensor:
        return loss(x.view(1), torch.full((1,), target))

    return cost


def one_object() -> InstanceData:
    """One box of 40 x 40 pixels in an image of 128 x 128.

    Its centre is that of a cell of stride 16, so that MMDetection assigns the same anchor.
    """
    return InstanceData(bboxes=torch.tensor([[36.0, 36.0, 76.0, 76.0]]), labels=torch.tensor([0]))


CHANNELS = {
    'width': (2, ('loss_wh', 'loss_box')),
    'objectness': (4, ('loss_obj', 'loss_noobj', 'loss_conf')),
}
"""What varies in a cell of a grid: the channel, and the terms that depend on it only."""


class Grid(NamedTuple):
    """The targets of the image with one object."""

    targets: Any
    zeros: Any
    """Outputs of the detector, all 0."""
    place: tuple[int, int, int, int]
    """Level, anchor, row and column of the object."""


@cache
def grid(stem: str) -> Grid:
    """The targets of a grid detector."""
    encoder = TASK_UTILS.build(dict(type=f'{stem}TargetEncoder', num_classes=1))
    coarse_first = dict.fromkeys(('YOLOV3', 'GaussianYOLO'), (4, 8, 16))
    sides = {'YOLOV2': (4,), **coarse_first}.get(stem, (16, 8, 4))
    targets = encoder.encode([one_object()], [(side, side) for side in sides], (128, 128))
    ideal = encoder.ideal_outputs(targets)
    places = [
        (i, *place)
        for i, level in enumerate(ideal.levels)
        for place in (level.unflatten(1, (-1, 6))[0, :, 4] > 0).nonzero().tolist()
    ]
    zeros = type(ideal)(*(tuple(map(torch.zeros_like, maps)) for maps in ideal))
    return Grid(targets, zeros, places[0])


def grid_cell(
    stem: str, channel: str, at_object: bool = True, theirs: bool = False, **options: object
) -> Cost:
    """Terms of a grid detector's criterion, as a function of one raw output of one cell.

    Every other output is 0. The value at 0 is subtracted, because it contains all other cells.
    """
    number, names = CHANNELS[channel]
    targets, zeros, (level, anchor, row, column) = grid(stem)
    row, column = (row, column) if at_object else (0, 0)
    loss = None if theirs else MODELS.build(dict(type=f'{stem}Loss', **options)).eval()

    def total(x: Tensor) -> Tensor:
        place = torch.zeros_like(zeros.levels[level])
        place[0, 6 * anchor + number, row, column] = 1
        maps = [each + place * x if i == level else each for i, each in enumerate(zeros.levels)]
        if loss is None:
            levels = mmdet_head(YOLOV3_RECIPE).loss_by_feat(maps, [one_object()], [{}])
            terms = {name: torch.stack(each).sum() for name, each in levels.items()}
        else:
            terms = loss(zeros._replace(levels=tuple(maps)), targets)
        return torch.stack([terms[name] for name in names if name in terms]).sum()

    rest = total(torch.zeros(())).detach()
    return lambda x: total(x) - rest


def first_cell(part: str, responsible: bool = True) -> Cost:
    """YOLOv1's terms for one cell with two boxes, as a function of one number of the first box."""
    encoder = TASK_UTILS.build(dict(type='YOLOV1TargetEncoder', num_classes=1))
    loss = MODELS.build(dict(type='YOLOV1Loss'))
    targets = encoder.encode([one_object()], [(1, 1)], (128, 128))
    goal = (40 / 128) ** 0.5
    good = torch.tensor([0.5, 0.5, goal, goal])
    boxes = torch.stack((good, good * 0.5) if responsible else (good * 0.5, good))

    def cost(x: Tensor) -> Tensor:
        conf, box = torch.zeros(1, 2, 1, 1), boxes.view(1, 2, 4, 1, 1)
        change = torch.tensor([1.0, 0.0])
        if part == 'confidence':
            conf = conf + x * change.view(1, 2, 1, 1)
        else:
            where = torch.zeros(1, 2, 4, 1, 1)
            where[0, 0, 2] = 1
            box = box * (1 - where) + x * where
        outputs = encoder.outputs_type(torch.ones(1, 1, 1, 1), conf, box)
        terms = loss(outputs, targets)
        return terms['loss_wh'] if part == 'width' else terms['loss_obj'] + terms['loss_noobj']

    return cost


def case_entry(name: str, objects: bool) -> Cost | None:
    """A term with the inputs of its case in ``tests/cases.py``, as a function of one entry.

    The entry is the one with the largest gradient, in inputs with or without objects. The value at
    0 is subtracted. None: no entry has a gradient.
    """
    case = LOSSES[name]
    term = MODELS.build(case.config)
    inputs = (case.inputs if objects else case.empty)(torch.Generator().manual_seed(0))
    key = case.wrt[0]
    pred = inputs[key].float().requires_grad_()
    inputs = {each: _as_float(value) for each, value in inputs.items()}
    (slope,) = torch.autograd.grad(term(**{**inputs, key: pred}), pred)
    if not slope.any():
        return None
    place = torch.zeros_like(slope).flatten()
    place[slope.abs().argmax()] = 1
    place, rest = place.view_as(slope), pred.detach() * (1 - place.view_as(slope))
    base = term(**{**inputs, key: rest})
    return lambda x: term(**{**inputs, key: rest + place * x}) - base


def _as_float(value: object) -> object:
    """A float64 tensor as float32; anything else unchanged."""
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
