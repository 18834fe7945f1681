"""Golden numbers of darknet's [yolo] layer (YOLOv3, v4, csp) against this package.

darknet's delta is minus the gradient, and its cost a sum of squared deltas; both are taken here
from the gradients of our criteria. Float32 sums over thousands of terms differ in the sixth digit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdet_losses.detectors.yolo import (
    GridTargets,
    YOLOV3Loss,
    YOLOV3Outputs,
    YOLOV3TargetEncoder,
)
from mmdet_losses.ops import box_center, box_size, darknet_iou
from tools.parity.golden import Case, GoldenCases, complete
from tools.parity.rows import Row, compare

BOX_TERMS = ('mse', 'iou', 'giou', 'diou', 'ciou')
UNLIMITED = 1e30
DELTA = dict(atol=3e-6, rtol=3e-6)
SUM = dict(atol=1e-5, rtol=1e-5)


def encoder_of(
    case: Case, classes: int, **options: Any
) -> tuple[YOLOV3TargetEncoder, list[list[int]]]:
    """The encoder of the whole model; its first map is that of the file."""
    anchors = case['anchors'].tolist()
    own = case['mask'].tolist() if 'mask' in case else list(range(len(anchors)))
    others = [i for i in range(len(anchors)) if i not in own]
    groups = [own, others] if others else [own]
    key = 'opt_scale_x_y' if 'opt_scale_x_y' in case else 'scale_x_y'
    scale = case.number(key) if key in case else 1.0
    encoder = YOLOV3TargetEncoder(
        classes,
        [[anchors[i] for i in group] for group in groups],
        scale_xy=scale,
        iou_threshold=case.number('opt_iou_thresh') if 'opt_iou_thresh' in case else 1.0,
        squared=bool(case['opt_new_coords']) if 'opt_new_coords' in case else scale >= 2,
        topk=None,
        **{'code': 'alexeyab', **options},
    )
    return encoder, groups


def _one_map(case: Case, encoder: YOLOV3TargetEncoder, groups: list, size: tuple) -> GridTargets:
    targets = encoder.encode(case.instances(), [size] * len(groups), case.img_size())
    return targets._replace(levels=targets.levels[:1])


def _criterion(case: Case) -> YOLOV3Loss:
    bound = case.number('opt_max_delta')
    counters = case['opt_counters_per_class'].tolist() if 'opt_counters_per_class' in case else None
    return YOLOV3Loss(
        box=BOX_TERMS[int(case['opt_iou_loss'])],
        code='alexeyab',
        iou_normalizer=case.number('opt_iou_normalizer'),
        obj_normalizer=case.number('opt_obj_normalizer'),
        cls_normalizer=case.number('opt_cls_normalizer'),
        ignore_threshold=case.number('opt_ignore_thresh'),
        max_delta=None if bound > UNLIMITED else bound,
        label_smoothing=case.number('opt_label_smooth_eps'),
        objectness_smooth=bool(case['opt_objectness_smooth']),
        focal=bool(case['opt_focal_loss']),
        class_counters=counters,
    )


def yolo_layer(golden: GoldenCases) -> list[Row]:
    """YOLOv3, v4 and csp: claims, deltas, cost, potentials, what the layer prints."""
    rows = []
    for case in golden:
        x = case.leaf('x')
        count = len(case['mask'])
        encoder, groups = encoder_of(case, x.shape[1] // count - 5)
        targets = _one_map(case, encoder, groups, tuple(x.shape[2:]))
        criterion = _criterion(case)
        losses = criterion(YOLOV3Outputs((x,)), targets)
        sum(losses.values()).backward()
        twin = case.leaf('x', torch.float64)
        sum(criterion(YOLOV3Outputs((twin,)), targets).values()).backward()
        rows += _options(golden.name, case, targets, x)
        rows += _deltas(golden.name, case, x, losses, count, -twin.grad)
        rows += _claims(golden.name, case, targets, x, count)
        rows += _decoded(golden.name, case, encoder, groups, targets, x.detach())
    return rows


def add(
    rows: list[Row], file: str, case: Case, key: str, got: Tensor | float, **tol: float
) -> None:
    if key in case:
        rows.append(compare(file, case.label(key), got, case[key], **tol))


def listed_gt(targets: GridTargets, like: np.ndarray) -> np.ndarray:
    """Boxes and labels as rows of darknet's list, which has no gaps."""
    got = np.zeros_like(like)
    for image in range(len(like)):
        kept = targets.mask[image]
        rows = torch.cat((targets.boxes[image], targets.labels[image, :, None]), -1)[kept]
        got[image, : len(rows), :5] = rows
    return got


def _options(file: str, case: Case, targets: GridTargets, x: Tensor) -> list[Row]:
    """What the layer was given, and options that this package has in one setting only."""
    rows: list[Row] = []
    add(rows, file, case, 'truth', listed_gt(targets, case['truth']), atol=1e-6)
    add(rows, file, case, 'stride', case.img_size()[0] / targets.levels[0].grid.size[0])
    add(rows, file, case, 'opt_truth_thresh', 1.0)  # an IoU that nothing exceeds
    add(rows, file, case, 'x_activated', x.detach().sigmoid(), atol=1e-6)
    return rows


def _deltas(
    file: str, case: Case, x: Tensor, losses: dict[str, Tensor], count: int, precise: Tensor
) -> list[Row]:
    """``precise``: the delta of a float64 run, for the division by the logistic derivative."""
    rows: list[Row] = []
    delta = -x.grad.double()
    if 'delta_logit' in case:
        add(rows, file, case, 'delta_logit', delta, **DELTA)
        score = x.detach().double().sigmoid()
        delta = precise / (score * (1 - score))
    add(rows, file, case, 'delta', delta, **DELTA)
    squares = delta.square().unflatten(1, (count, -1))
    total, boxes = squares.sum(), squares[:, :, :4].sum()
    rest = (total - boxes) * case.number('opt_obj_normalizer')
    cost = losses['loss_box'].detach() + rest if 'loss_box' in losses else total
    add(rows, file, case, 'cost', cost, **SUM)
    if 'printed' in case:
        batch = len(x)
        printed = torch.stack((rest, total - rest, total)) / batch
        want = case['printed'][2:]
        # six decimals are printed; iou_loss is the difference of the other two sums
        atol = 1e-6 + 2e-6 * float(np.abs(want).max())
        rows.append(compare(file, case.label('printed losses'), printed, want, atol, 1e-5))
    for key in ('xy', 'wh', 'obj', 'noobj', 'cls'):
        if f'loss_{key}' in losses:
            add(rows, file, case, f'pot_{key}', losses[f'loss_{key}'], **SUM)
    return rows


def _claims(file: str, case: Case, targets: GridTargets, x: Tensor, count: int) -> list[Row]:
    rows: list[Row] = []
    level = targets.levels[0]
    height, width = level.grid.size
    index = level.index[:, None].expand_as(level.positive)
    number = torch.zeros(*level.positive.shape[:2], height * width, dtype=torch.int64)
    number = number.scatter_add(2, index, level.positive.long()).unflatten(2, (height, width))
    add(rows, file, case, 'pos', number > 0)
    add(rows, file, case, 'num_truth', number)
    obj = x.detach().double().unflatten(1, (count, -1))[:, :, 4].sigmoid()
    grad = x.grad.double().unflatten(1, (count, -1))[:, :, 4]
    if level.grid.squared:
        grad = grad / (obj * (1 - obj))
    plain = obj * case.number('opt_obj_normalizer')
    ignored = (number == 0) & ((grad - plain).abs() > 1e-5 * plain)
    add(rows, file, case, 'ignore', ignored)
    return rows


def _decoded(
    file: str,
    case: Case,
    encoder: YOLOV3TargetEncoder,
    groups: list,
    targets: GridTargets,
    x: Tensor,
) -> list[Row]:
    rows: list[Row] = []
    level = targets.levels[0]
    count, (height, width) = len(groups[0]), level.grid.size
    decoded = decode_first(encoder, x, (1, 1), case.img_size())
    boxes, objects, classes = (each.unflatten(1, (count, height, width)) for each in decoded)
    fractions = torch.cat((box_center(boxes), box_size(boxes)), -1)
    add(rows, file, case, 'boxes', fractions, atol=1e-6, rtol=1e-6)
    if 'output' in case:
        cell = torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing='xy'))
        cells = torch.tensor([width, height])
        xy = (fractions[..., :2] * cells).permute(0, 1, 4, 2, 3) - cell
        wh = (x if not level.grid.squared else x.sigmoid()).unflatten(1, (count, -1))[:, :, 2:4]
        parts = (xy, wh, objects[:, :, None], classes.permute(0, 1, 4, 2, 3))
        output = torch.cat(parts, 2).flatten(1, 2)
        add(rows, file, case, 'output', output, atol=1e-5)
    if 'printed' in case:
        index = level.index[:, None].expand_as(level.positive)
        flat = fractions.flatten(2, 3).gather(2, index[..., None].expand(-1, -1, -1, 4))
        iou = darknet_iou(flat, targets.boxes[:, None])[level.positive]
        got = torch.stack((iou.mean(), targets.levels[0].positive.sum().float()))
        rows.append(compare(file, case.label('printed IoU, count'), got, case['printed'][:2], 2e-6))
    return rows


def decode_first(
    encoder: YOLOV3TargetEncoder,
    x: Tensor,
    img_size: tuple[int, int],
    input_size: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Decode the first map alone; the anchors are in pixels of ``input_size``."""
    height, width = input_size
    rescaled = [[(w / width, h / height) for w, h in encoder.anchors[0]]]
    one = type(encoder)(
        encoder.num_classes,
        rescaled,
        scale_xy=encoder.scale_xy[0],
        squared=encoder.squared,
        topk=None,
    )
    return one.decode_all(encoder.outputs_type((x,)), img_size)


CHECKS = {
    'yolov3_loss': complete(yolo_layer),
    'yolov4_loss': complete(yolo_layer),
    'yolov4csp_darknet_loss': complete(yolo_layer),
}
