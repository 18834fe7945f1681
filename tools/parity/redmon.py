"""Golden numbers of Redmon's darknet: [yolo], [region] and [detection] layers.

Arrays are those of ``anchor_grid`` and ``anchor_darknet``, with these differences. The ground truth
is the list that was fed to the layer, which no loader had clipped. A case can have the input of an
earlier one (``x_same_as``). ``delta`` of the [region] layer lacks the derivative of the sigmoid;
``delta_logit`` has it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mmdet_losses.detectors.yolo import (
    GridTargets,
    YOLOV2Loss,
    YOLOV2Outputs,
    YOLOV2TargetEncoder,
    YOLOV3Loss,
    YOLOV3Outputs,
)
from mmdet_losses.detectors.yolo.contracts import Grid
from mmdet_losses.detectors.yolo.darknet_encoder import DarknetTargetEncoder
from mmdet_losses.detectors.yolo.grids import Slots, grid_boxes, object_slots
from mmdet_losses.detectors.yolo.maps import first_in_cell, put_cells, split_level, take_cells
from mmdet_losses.detectors.yolo.yolov2_loss import claims_by_current_size
from mmdet_losses.ops import best_match, darknet_iou
from tools.parity.anchor_darknet import yolov1_layer
from tools.parity.anchor_grid import DELTA, SUM, add, encoder_of
from tools.parity.golden import Case, GoldenCases, complete
from tools.parity.rows import Row, compare

BOX = dict(atol=1e-6, rtol=1e-6)
PRINTED = dict(atol=2e-6, rtol=1e-6)


def _with_input(golden: GoldenCases, case: Case) -> Case:
    """The case with the arrays of the earlier case that has the same input."""
    if 'x_same_as' in case:
        owner = str(case['x_same_as'])
        for key in ('x', 'output', 'boxes'):
            case.arrays.setdefault(key, golden.arrays[f'{owner}__{key}'])
    return case


def _listed(
    case: Case, encoder: DarknetTargetEncoder, sizes: list[tuple[int, int]]
) -> tuple[GridTargets, list[Row]]:
    """Targets of the list that the layer was given, and that list against our loading."""
    rows = case.tensor('truth')
    mask = (rows[..., 0] != 0).int().cumprod(1).bool()
    boxes, labels = torch.where(mask[..., None], rows[..., :4], 0), rows[..., 4].long() * mask
    if encoder.class_map is not None:
        labels = torch.tensor(encoder.class_map)[labels]
    targets = encoder.assign(boxes, labels, mask, sizes, case.img_size())
    own = encoder.encode(case.instances(), sizes, case.img_size())
    height, width = case.img_size()
    gt_boxes = case.tensor('gt_boxes')
    inside = (gt_boxes >= 0) & (gt_boxes <= torch.tensor([width, height] * 2))
    whole = inside.all(-1).all(-1)  # images in which the loader clips nothing
    slots = own.boxes.shape[1]
    found = torch.cat((own.boxes, own.labels[..., None]), -1)[whole]
    want = torch.cat((boxes, labels[..., None]), -1)[whole][:, :slots]
    return targets, [compare('', case.label('truth'), found, want.numpy(), 1e-6)]


def _grid_rows(case: Case, slots: Slots, x: Tensor) -> list[Row]:
    """Claims, decoded boxes, and owners of the first map."""
    rows: list[Row] = []
    size, cells = slots.grid.size, slots.grid.cells
    number = torch.zeros(*slots.mask.shape[:2], cells, dtype=torch.int64)
    number = number.scatter_add(2, slots.index, slots.mask.long()).unflatten(2, size)
    last = slots.last()
    order = torch.arange(slots.mask.shape[2]).expand_as(slots.index)
    owner = put_cells(order, last.index, last.mask, cells, -1)
    add(rows, '', case, 'boxes', _boxes(x, slots.grid).unflatten(2, size), **BOX)
    add(rows, '', case, 'pos', number > 0)
    add(rows, '', case, 'num_truth', number)
    if 'thresh_pos' not in case:
        add(rows, '', case, 'gt_index', owner.unflatten(2, size))
    return rows


def _boxes(x: Tensor, grid: Grid) -> Tensor:
    """(B, A, N, 4) cxcywh of every prediction, sizes as large as float32 goes."""
    raw = split_level(x, len(grid.anchors))
    center, _ = grid_boxes(raw, grid)
    size = raw.wh.double().exp() * grid.anchors[:, :, None]
    limit = 3e38
    return torch.cat((center.double(), size), 2).transpose(2, 3).clamp(max=limit).float()


def _printed(
    slots: Slots, x: Tensor, output: Tensor, levels: Sequence[float], counted: Tensor | None = None
) -> Tensor:
    """Means of IoU, class score and objectness, all objectness, recalls, number of objects.

    ``counted``: the slots whose class score is part of the sum.
    """
    parts = output.unflatten(1, (slots.mask.shape[1], -1)).flatten(3)
    own = _boxes(x, slots.grid).gather(2, slots.index[..., None].expand(-1, -1, -1, 4))
    iou = darknet_iou(own, slots.boxes)[slots.mask]
    cls = take_cells(parts[:, :, 5:], slots.index).gather(-1, slots.labels[..., None])[..., 0]
    cls = cls * (slots.mask if counted is None else counted)
    obj = take_cells(parts[:, :, 4], slots.index)[slots.mask]
    means = [iou.mean(), cls.sum() / len(iou), obj.mean(), parts[:, :, 4].mean()]
    recalls = [(iou > level).float().mean() for level in levels]
    return torch.stack([*means, *recalls, torch.tensor(float(len(iou)))])


def yolov3_layer(golden: GoldenCases) -> list[Row]:
    """[yolo]: claims, deltas, cost, potentials, what the layer prints."""
    rows: list[Row] = []
    for each in golden:
        case = _with_input(golden, each)
        x = case.leaf('x')
        count = len(case['mask'])
        mapping = case['opt_map'].tolist() if 'opt_map' in case else None
        encoder, groups = encoder_of(
            case,
            x.shape[1] // count - 5,
            code='redmon',
            class_map=mapping,
            max_objects=int(case['opt_max_boxes']),
        )
        targets, found = _listed(case, encoder, [tuple(x.shape[2:])] * len(groups))
        targets = targets._replace(levels=targets.levels[:1])
        criterion = YOLOV3Loss(
            ignore_threshold=case.number('opt_ignore_thresh'),
            truth_threshold=case.number('opt_truth_thresh'),
        )
        losses = criterion(YOLOV3Outputs((x,)), targets)
        sum(losses.values()).backward()
        delta = -x.grad.double()
        found += _grid_rows(case, object_slots(targets.levels[0], targets), x.detach())
        add(found, '', case, 'stride', case.img_size()[0] / targets.levels[0].grid.size[0])
        add(found, '', case, 'delta', delta, **DELTA)
        add(found, '', case, 'cost', delta.square().sum(), **SUM)
        for key in ('xy', 'wh', 'obj', 'noobj', 'cls'):
            add(found, '', case, f'pot_{key}', losses[f'loss_{key}'], **SUM)
        found += _yolo_outputs(case, encoder, targets, x.detach(), delta)
        rows += found
    return [row._replace(file=golden.name) for row in rows]


def _yolo_outputs(
    case: Case, encoder: DarknetTargetEncoder, targets: GridTargets, x: Tensor, delta: Tensor
) -> list[Row]:
    """Activated outputs, ignored and forced predictions, what the layer prints."""
    rows: list[Row] = []
    grid, slots = targets.levels[0].grid, object_slots(targets.levels[0], targets)
    count = len(grid.anchors)
    raw = split_level(x, count)
    obj, cls = encoder.scores(raw)
    output = torch.cat((raw.xy.sigmoid(), raw.wh, obj.unsqueeze(2), cls), 2)
    output = output.flatten(1, 2).unflatten(2, grid.size)
    add(rows, '', case, 'output', output, atol=1e-6)
    positive = slots.claimed().unflatten(2, grid.size)
    moved = delta.unflatten(1, (count, -1))[:, :, 4]
    iou, best = best_match(*grid_boxes(raw, grid), targets.boxes, targets.mask)
    forced = (iou > case.number('opt_truth_thresh')).unflatten(2, grid.size)
    add(rows, '', case, 'thresh_pos', forced)
    add(rows, '', case, 'ignore', (moved == 0) & (obj.unflatten(2, grid.size) > 0) & ~positive)
    last = slots.last()
    order = torch.arange(slots.mask.shape[2]).expand_as(slots.index)
    owner = put_cells(order, last.index, last.mask, grid.cells, -1).unflatten(2, grid.size)
    owner = torch.where(~positive & forced, best.unflatten(2, grid.size), owner)
    add(rows, '', case, 'gt_index', owner)
    add(rows, '', case, 'printed', _printed(slots, x, output, (0.5, 0.75)), **PRINTED)
    return rows


def yolov2_layer(golden: GoldenCases) -> list[Row]:
    """[region]: claims, deltas, cost, potentials, what the layer prints."""
    rows: list[Row] = []
    for each in golden:
        case = _with_input(golden, each)
        x = case.leaf('x')
        (height, width), img_size = x.shape[2:], case.img_size()
        stride = np.array([img_size[1] / width, img_size[0] / height])
        background, softmax = bool(case['opt_background']), bool(case['opt_softmax'])
        encoder = YOLOV2TargetEncoder(
            x.shape[1] // len(case['anchors']) - 5,
            [(case['anchors'] * stride).tolist()],
            softmax=softmax,
            background=background,
            class_map=case['opt_map'].tolist() if 'opt_map' in case else None,
            max_objects=30,
            topk=None,
        )
        targets, found = _listed(case, encoder, [(height, width)])
        criterion = YOLOV2Loss(
            object_scale=case.number('opt_object_scale'),
            no_object_scale=case.number('opt_noobject_scale'),
            class_scale=case.number('opt_class_scale'),
            coord_scale=case.number('opt_coord_scale'),
            softmax=softmax,
            background=background,
            rescore=bool(case['opt_rescore']),
            ignore_threshold=case.number('opt_thresh'),
            match_shape=bool(case['opt_bias_match']),
        ).eval()
        criterion.seen.fill_(int(case['seen']))
        losses = criterion(YOLOV2Outputs((x,)), targets)
        sum(losses.values()).backward()
        for key in ('xy', 'wh', 'obj', 'noobj', 'cls'):
            add(found, '', case, f'pot_{key}', losses[f'loss_{key}'], **SUM)
        found += _region_outputs(case, encoder, targets, x, criterion)
        rows += found
    return [row._replace(file=golden.name) for row in rows]


def _region_outputs(
    case: Case,
    encoder: YOLOV2TargetEncoder,
    targets: GridTargets,
    x: Tensor,
    criterion: YOLOV2Loss,
) -> list[Row]:
    """Deltas before and after the sigmoid, activated outputs, claims, what the layer prints."""
    rows: list[Row] = []
    grid, count = targets.levels[0].grid, len(case['anchors'])
    raw = split_level(x.detach(), count)
    obj, cls = encoder.scores(raw)
    if criterion.background:
        obj = 1 - cls.sum(2)
    output = torch.cat((raw.xy.sigmoid(), raw.wh, obj.unsqueeze(2), cls), 2)
    output = output.flatten(1, 2).unflatten(2, grid.size)
    add(rows, '', case, 'output', output, atol=1e-6)
    logit = -x.grad.double()
    slope = (output.double() * (1 - output.double())).unflatten(1, (count, -1))
    slope[:, :, 2:4] = 1
    slope[:, :, 5 if not criterion.background else 4 :] = 1
    delta = logit / slope.flatten(1, 2)
    add(rows, '', case, 'delta_logit', logit, **DELTA)
    add(rows, '', case, 'delta', delta, atol=1e-5, rtol=1e-5)
    add(rows, '', case, 'cost', delta.square().sum(), **SUM)
    slots = object_slots(targets.levels[0], targets)
    if not criterion.match_shape:
        wh = take_cells(raw.wh, slots.index)
        slots = slots._replace(mask=claims_by_current_size(wh, slots, targets))
    rows += _grid_rows(case, slots, x.detach())
    moved = delta.unflatten(1, (count, -1))[:, :, 4]
    positive = slots.claimed().unflatten(2, grid.size)
    add(rows, '', case, 'ignore', (moved == 0) & ~positive)
    wanted = obj.unflatten(2, grid.size) + moved / criterion.object_scale
    add(rows, '', case, 'obj_target', torch.where(positive, wanted, 0), atol=1e-5)
    counted = None  # without softmax, a later object of an anchor is not part of the mean
    if not criterion.softmax:
        counted = first_in_cell(slots.index, slots.mask, grid.cells)
    got = _printed(slots, x.detach(), output, (0.5,), counted)
    add(rows, '', case, 'printed', got, **PRINTED)
    return rows


CHECKS = {
    'redmon_yolov1_loss': complete(yolov1_layer),
    'redmon_yolov2_loss': complete(yolov2_layer),
    'redmon_yolov3_loss': complete(yolov3_layer),
}
