"""Golden numbers of darknet's [detection] and [region] layers (YOLOv1, v2) against this package.

As in ``anchor_grid``: delta is minus the gradient of our criteria.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmdet_losses.detectors.yolo import (
    GridTargets,
    YOLOV1Loss,
    YOLOV1Outputs,
    YOLOV1TargetEncoder,
    YOLOV1Targets,
    YOLOV2Loss,
    YOLOV2Outputs,
    YOLOV2TargetEncoder,
)
from mmdet_losses.detectors.yolo.maps import last_in_cell, put_cells
from mmdet_losses.ops import box_center, box_size, darknet_iou
from tools.parity.anchor_decode import gt_grid
from tools.parity.anchor_grid import DELTA, SUM, add, listed_gt
from tools.parity.golden import Case, GoldenCases, complete
from tools.parity.rows import Row, compare


def yolov1_layer(golden: GoldenCases) -> list[Row]:
    """YOLOv1: deltas, cost, potentials, responsible boxes, what the layer prints."""
    rows: list[Row] = []
    for case in golden:
        leaves = [case.leaf(key) for key in ('pred_cls', 'pred_conf', 'pred_box')]
        cls, conf, box = leaves
        outputs = YOLOV1Outputs(
            cls.permute(0, 3, 1, 2), conf.permute(0, 3, 1, 2), box.permute(0, 3, 4, 1, 2)
        )
        classes, side = cls.shape[3], cls.shape[1]
        root = bool(case['opt_sqrt'])
        encoder = YOLOV1TargetEncoder(classes, conf.shape[3], root)
        targets = encoder.encode(case.instances(), [(side, cls.shape[2])], case.img_size())
        add(
            rows,
            golden.name,
            case,
            'truth',
            gt_grid(case.instances(), case, 'truth', classes),
            atol=1e-6,
        )
        softmax = bool(case['opt_softmax'])
        criterion = YOLOV1Loss(
            coord_scale=case.number('opt_coord_scale'),
            object_scale=case.number('opt_object_scale'),
            no_object_scale=case.number('opt_noobject_scale'),
            class_scale=case.number('opt_class_scale'),
            rescore=bool(case['opt_rescore']),
            square_root=root,
            softmax=softmax,
            forced=bool(case['opt_forced']),
        )
        losses = criterion(outputs, targets)
        sum(losses.values()).backward()
        deltas = [-leaf.grad for leaf in leaves]
        for key, delta in zip(('delta_cls', 'delta_conf', 'delta_box'), deltas, strict=True):
            add(rows, golden.name, case, key, delta, **DELTA)
        cost = sum(delta.double().square().sum() for delta in deltas)
        add(rows, golden.name, case, 'cost', cost, **SUM)
        if softmax:  # half squares of the softmax, whose gradient is not delta
            case.skip('pot_cls')
        for key in ('xy', 'wh', 'obj', 'noobj') if softmax else ('xy', 'wh', 'obj', 'noobj', 'cls'):
            add(rows, golden.name, case, f'pot_{key}', losses[f'loss_{key}'], **SUM)
        add(rows, golden.name, case, 'out_cls', cls.softmax(-1) if softmax else cls, atol=1e-6)
        rows += _responsible(golden.name, case, criterion, outputs, targets)
    return rows


def _responsible(
    file: str, case: Case, criterion: YOLOV1Loss, outputs: YOLOV1Outputs, targets: YOLOV1Targets
) -> list[Row]:
    rows: list[Row] = []
    with torch.no_grad():
        chosen, iou = criterion._responsible(outputs.box, targets)
    own = torch.where(targets.mask, chosen.int().argmax(1), -1)
    add(rows, file, case, 'responsible', own)
    reached = torch.where(chosen, iou, 0).sum(1)
    add(rows, file, case, 'resp_iou', reached, atol=1e-6)
    if 'printed' in case:
        cls, conf, _ = (each.detach() for each in outputs)
        if bool(case['opt_softmax']):
            cls = cls.softmax(1)
        mask, count = targets.mask, targets.mask.sum()
        right = cls.gather(1, targets.labels[:, None]).squeeze(1)
        got = [reached.sum() / count, (right * mask).sum() / count]
        got += [(cls * mask[:, None]).sum() / (count * cls.shape[1])]
        got += [(conf * chosen).sum() / count, conf.mean(), count]
        got = torch.stack([each.float() for each in got])
        rows.append(compare(file, case.label('printed'), got, case['printed'], 2e-6, 1e-6))
    return rows


def yolov2_layer(golden: GoldenCases) -> list[Row]:
    """YOLOv2: claims, deltas, cost, potentials, what the layer prints."""
    rows: list[Row] = []
    for case in golden:
        x = case.leaf('x')
        count, (height, width) = len(case['anchors']), x.shape[2:]
        classes = x.shape[1] // count - 5
        img_size = case.img_size()
        stride = np.array([img_size[1] / width, img_size[0] / height])
        encoder = YOLOV2TargetEncoder(
            classes, [(case['anchors'] * stride).tolist()], topk=None, code='alexeyab'
        )
        targets = encoder.encode(case.instances(), [(height, width)], img_size)
        criterion = YOLOV2Loss(
            object_scale=case.number('opt_object_scale'),
            no_object_scale=case.number('opt_noobject_scale'),
            class_scale=case.number('opt_class_scale'),
            coord_scale=case.number('opt_coord_scale'),
            code='alexeyab',
            rescore=bool(case['opt_rescore']),
            ignore_threshold=case.number('opt_thresh'),
            match_shape=bool(case['opt_bias_match']),
        ).eval()
        criterion.seen.fill_(int(case['seen']))
        losses = criterion(YOLOV2Outputs((x,)), targets)
        sum(losses.values()).backward()
        add(rows, golden.name, case, 'delta', -x.grad, **DELTA)
        add(rows, golden.name, case, 'truth', listed_gt(targets, case['truth']), atol=1e-6)
        add(rows, golden.name, case, 'opt_softmax', 1.0)
        add(rows, golden.name, case, 'opt_classfix', 0.0)
        cost = x.grad.double().square().sum()
        add(rows, golden.name, case, 'cost', cost, atol=1e-5, rtol=1e-5)
        for key in ('xy', 'wh', 'obj', 'noobj', 'cls'):
            add(rows, golden.name, case, f'pot_{key}', losses[f'loss_{key}'], **SUM)
        rows += _region(golden.name, case, encoder, targets, x, criterion)
    return rows


def _region(
    file: str,
    case: Case,
    encoder: YOLOV2TargetEncoder,
    targets: GridTargets,
    x: Tensor,
    criterion: YOLOV2Loss,
) -> list[Row]:
    rows: list[Row] = []
    level = targets.levels[0]
    count, (height, width) = level.positive.shape[1], level.grid.size
    cells = height * width
    index = level.index[:, None].expand_as(level.positive)
    last = last_in_cell(index, level.positive, cells)
    kept = targets.mask.cumsum(1) - 1  # position in darknet's list, which has no gaps
    owner = put_cells(kept[:, None].expand_as(index), index, last, cells, -1)
    owner = owner.unflatten(2, (height, width))
    pos = owner >= 0
    unit = YOLOV2TargetEncoder(encoder.num_classes, [level.grid.anchors.tolist()])
    boxes, objects, scores = (
        each.unflatten(1, (count, height, width))
        for each in unit.decode_all(YOLOV2Outputs((x.detach(),)), (1, 1))
    )
    raw = x.detach().unflatten(1, (count, -1))
    fractions = torch.cat((box_center(boxes), box_size(boxes)), -1)
    add(rows, file, case, 'boxes', fractions, atol=1e-6, rtol=1e-6)
    output = torch.cat(
        (
            raw[:, :, :4].permute(0, 3, 4, 1, 2),
            objects.permute(0, 2, 3, 1)[..., None],
            scores.permute(0, 2, 3, 1, 4),
        ),
        -1,
    )
    add(rows, file, case, 'output', output, atol=1e-6)
    if criterion.match_shape:
        add(rows, file, case, 'pos', pos)
        add(rows, file, case, 'gt_index', owner)
    if criterion.match_shape:
        got = _printed(fractions, objects, scores, targets)
        add(rows, file, case, 'printed', got, atol=2e-6, rtol=1e-6)
    else:
        case.skip('printed')  # of anchors that are chosen by their current size
    grad = x.grad.unflatten(1, (count, -1))[:, :, 4]
    add(rows, file, case, 'ignore', ~pos & (grad == 0))
    # d obj: scale * (p - target) * p (1 - p)
    wanted = objects - grad / (criterion.object_scale * objects * (1 - objects))
    if 'obj_target' in case and criterion.match_shape:
        got, want = torch.where(pos, wanted, 0), case['obj_target']
        rows.append(compare(file, case.label('obj_target'), got, want, 2e-5))
    return rows


def _printed(boxes: Tensor, objects: Tensor, scores: Tensor, targets: GridTargets) -> Tensor:
    """Mean IoU, class score and objectness of objects, mean objectness, recall, count."""
    level = targets.levels[0]
    index = level.index[:, None].expand_as(level.positive)

    def of_objects(values: Tensor) -> Tensor:
        flat = values.flatten(2, 3)
        wide = index.reshape(*index.shape, *[1] * (flat.dim() - 3)).expand(
            *index.shape, *flat.shape[3:]
        )
        return flat.gather(2, wide)[level.positive]

    owner = targets.boxes[:, None].expand(*index.shape, 4)[level.positive]
    label = targets.labels[:, None].expand_as(index)[level.positive]
    iou = darknet_iou(of_objects(boxes), owner)
    right = of_objects(scores).gather(1, label[:, None])
    means = [iou.mean(), right.mean(), of_objects(objects).mean(), objects.mean()]
    return torch.stack([*means, (iou > 0.5).float().mean(), torch.tensor(float(len(iou)))])


CHECKS = {'yolov1_loss': complete(yolov1_layer), 'yolov2_loss': complete(yolov2_layer)}
