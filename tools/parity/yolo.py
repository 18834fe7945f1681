"""Golden checks of darknet's [detection], [region] and [yolo] layers, of both programs.

darknet's delta is minus the gradient, and its cost a sum of squared deltas; both are taken from
the gradients of our criteria. Redmon's layer tests were fed lists that no loader had clipped. A
case can have the input of an earlier one (``x_same_as``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
    YOLOV3Loss,
    YOLOV3Outputs,
    YOLOV3TargetEncoder,
    grids,
    maps,
)
from mmdet_losses.detectors.yolo.cells import Grid
from mmdet_losses.detectors.yolo.darknet_encoder import DarknetTargetEncoder
from mmdet_losses.detectors.yolo.grids import Slots, object_slots
from mmdet_losses.detectors.yolo.maps import RawLevel, split_level, take_cells
from mmdet_losses.detectors.yolo.yolov2_loss import claims_by_current_size
from mmdet_losses.ops import best_match, box_center, box_size, darknet_iou
from tools.parity.golden import EXACT, Case

BOX_TERMS = ('mse', 'iou', 'giou', 'diou', 'ciou')
UNLIMITED = 1e30
CLIPPED = 'the loader clips a box of every image of the case'
POTENTIALS = ('xy', 'wh', 'obj', 'noobj', 'cls')
DELTA = dict(tol=EXACT, each=3e-6)
SUM = 7e-6
"""Of float32 sums over thousands of terms, in darknet and here."""
PRINTED = 2e-6
"""darknet prints six decimals."""


def v1_outputs(cls: Tensor, conf: Tensor, box: Tensor) -> YOLOV1Outputs:
    """Outputs from the parts of a [detection] layer, the cells before the channels."""
    cells = cls.permute(0, 3, 1, 2), conf.permute(0, 3, 1, 2)
    return YOLOV1Outputs(*cells, box.permute(0, 3, 4, 1, 2))


def yolov1(case: Case) -> None:
    """[detection]: deltas, cost, potentials, responsible boxes, what the layer prints."""
    leaves = [case.leaf(f'pred_{name}') for name in ('cls', 'conf', 'box')]
    cls, conf, _ = leaves
    outputs, size = v1_outputs(*leaves), tuple(cls.shape[1:3])
    softmax, root = case.flag('opt_softmax'), case.flag('opt_sqrt')
    encoder = YOLOV1TargetEncoder(cls.shape[3], conf.shape[3], root, softmax=softmax)
    targets = encoder.encode(case.instances(), [size], case.img_size())
    case.compare('truth', grid_rows(targets, cls.shape[3]), EXACT)
    criterion = YOLOV1Loss(
        no_object_scale=case.number('opt_noobject_scale'),
        rescore=case.flag('opt_rescore'),
        square_root=root,
        softmax=softmax,
        forced=case.flag('opt_forced'),
        **case.options('opt_{}', 'coord_scale', 'object_scale', 'class_scale'),
    )
    losses = criterion(outputs, targets)
    sum(losses.values()).backward()
    deltas = dict(zip(('delta_cls', 'delta_conf', 'delta_box'), leaves, strict=True))
    case.table({key: -leaf.grad for key, leaf in deltas.items()})
    cost = sum(leaf.grad.double().square().sum() for leaf in leaves)
    if softmax:
        case.skip('half squares of the softmax, whose gradient is not the delta', 'pot_cls')
    names = POTENTIALS[: 4 if softmax else 5]
    case.table({'cost': cost, **{f'pot_{name}': losses[f'loss_{name}'] for name in names}})
    scores = encoder.decode_all(outputs, (1, 1))[2].unflatten(1, (conf.shape[3], *size))[:, 0]
    case.compare('out_cls', scores, EXACT)
    _compare_responsible(case, criterion, outputs, targets, scores.movedim(-1, 1))


def grid_rows(targets: YOLOV1Targets, classes: int) -> Tensor:
    """(B, S, S, 1 + C + 4): is object, one-hot class, x, y, w, h."""
    own = (targets.labels[..., None] == torch.arange(classes)) & targets.mask[..., None]
    parts = (targets.mask[..., None].float(), own.float(), targets.box.movedim(1, -1))
    return torch.cat(parts, -1)


def _compare_responsible(
    case: Case, criterion: YOLOV1Loss, outputs: YOLOV1Outputs, targets: YOLOV1Targets, cls: Tensor
) -> None:
    with torch.no_grad():
        chosen, iou = criterion._responsible(outputs.box, targets)
    reached = torch.where(chosen, iou, 0).sum(1)
    owner = torch.where(targets.mask, chosen.int().argmax(1), -1)
    case.table({'responsible': owner, 'resp_iou': reached})
    mask, count = targets.mask, targets.mask.sum()
    right = cls.gather(1, targets.labels[:, None]).squeeze(1)
    printed = [reached.sum() / count, (right * mask).sum() / count]
    printed += [(cls * mask[:, None]).sum() / (count * cls.shape[1])]
    printed += [(outputs.conf * chosen).sum() / count, outputs.conf.mean(), count]
    case.compare('printed', torch.stack([each.float() for each in printed]), PRINTED)


def encoder_of(
    case: Case, classes: int, **options: Any
) -> tuple[YOLOV3TargetEncoder, list[list[int]]]:
    """The encoder of the whole model, and the anchors of each map; the file has the first map."""
    anchors = case['anchors'].tolist()
    own = case['mask'].tolist()
    others = [i for i in range(len(anchors)) if i not in own]
    groups = [own, others] if others else [own]
    scale = case.number('opt_scale_x_y', case.number('scale_x_y', 1.0))
    encoder = YOLOV3TargetEncoder(
        classes,
        [[anchors[i] for i in group] for group in groups],
        scale_xy=scale,
        iou_threshold=case.number('opt_iou_thresh', 1.0),
        squared=bool(case.number('opt_new_coords', scale >= 2)),
        topk=None,
        **options,
    )
    return encoder, groups


def decode_first(
    encoder: DarknetTargetEncoder, x: Tensor, img_size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes as cxcywh fractions, objectness and class scores of the first map."""
    channels = [len(level) * (5 + encoder.num_classes) for level in encoder.anchors]
    others = (x.new_zeros(len(x), count, 1, 1) for count in channels[1:])
    decoded = encoder.decode_all(encoder.outputs_type((x, *others)), img_size)
    count = x.shape[1] * x.shape[2] * x.shape[3] // (5 + encoder.num_classes)
    boxes, objects, classes = (each[:, :count] for each in decoded)
    scale = torch.tensor([img_size[1], img_size[0]])
    return torch.cat((box_center(boxes) / scale, box_size(boxes) / scale), -1), objects, classes


def _use_other_input(case: Case) -> None:
    """Add the arrays of the earlier case that has the same input."""
    if 'x_same_as' in case:
        owner = str(case['x_same_as'])
        for key in ('x', 'output', 'boxes'):
            case.keys.setdefault(key, f'{owner}__{key}')


def _listed_targets(
    case: Case, encoder: DarknetTargetEncoder, sizes: list[tuple[int, int]]
) -> GridTargets:
    """Targets of the list that the layer was given, and that list against our loading."""
    rows, img_size = case.tensor('truth'), case.img_size()
    mask = (rows[..., 0] != 0).int().cumprod(1).bool()
    if 'opt_max_boxes' in case:
        mask[:, case.number('opt_max_boxes') :] = False
    boxes, labels = torch.where(mask[..., None], rows[..., :4], 0), rows[..., 4].long() * mask
    mapping = encoder.class_map
    if mapping is not None:
        labels = torch.tensor(mapping)[labels]
    targets = encoder.assign(boxes, labels, mask, sizes, img_size)
    loader = type(encoder)(
        encoder.num_classes if mapping is None else len(mapping),
        encoder.anchors,
        code=encoder.code,
        max_objects=rows.shape[1],
    )
    loaded = loader.encode(case.instances(), sizes, img_size)
    edges = case.tensor('gt_boxes')
    inside = (edges >= 0) & (edges <= torch.tensor([*img_size[::-1]] * 2))
    whole = inside.all(-1).all(-1) if encoder.code == 'redmon' else torch.full((len(rows),), True)
    got = listed(loaded, rows.numpy())
    case.compare('truth', got, EXACT, where=whole.numpy(), empty=CLIPPED)
    return targets


def listed(targets: GridTargets, like: np.ndarray) -> np.ndarray:
    """Boxes and labels as rows of darknet's list, which has no gaps."""
    got = np.zeros_like(like)
    for image in range(len(like)):
        kept = targets.mask[image]
        rows = torch.cat((targets.boxes[image], targets.labels[image, :, None]), -1)[kept]
        got[image, : len(rows), :5] = rows
    return got


def yolov3(case: Case) -> None:
    """[yolo] of YOLOv3, v4 and csp: claims, deltas, cost, potentials, what the layer prints."""
    _use_other_input(case)
    case.skip('the sigmoid of x, which is the input of the layer', 'x_activated')
    case.skip('input size over map size', 'stride')
    x, count = case.leaf('x'), len(case['mask'])
    code = 'alexeyab' if 'opt_iou_normalizer' in case else 'redmon'
    mapping = case['opt_map'].tolist() if 'opt_map' in case else None
    encoder, groups = encoder_of(case, x.shape[1] // count - 5, code=code, class_map=mapping)
    targets = _listed_targets(case, encoder, [tuple(x.shape[2:])] * len(groups))
    targets = targets._replace(levels=targets.levels[:1])
    criterion = _yolov3_criterion(case, code)
    losses = criterion(YOLOV3Outputs((x,)), targets)
    sum(losses.values()).backward()
    twin = case.leaf('x', torch.float64)
    sum(criterion(YOLOV3Outputs((twin,)), targets).values()).backward()
    _compare_yolo_deltas(case, x, losses, count, -twin.grad)
    raw, slots = split_level(x.detach(), count), object_slots(targets.levels[0], targets)
    output = layer_output(encoder, raw, slots.grid)
    case.compare('output', output, EXACT)
    _compare_claims(case, encoder, x.detach(), slots)
    size = slots.grid.size
    positive = slots.claimed()
    iou, best = best_match(*grids.grid_boxes(raw, slots.grid), targets.boxes, targets.mask)
    forced = iou > criterion.truth_threshold
    options = criterion.options_of(0, 1)
    wanted, weight = criterion._objectness(options, raw, slots, positive | forced, targets)
    ignored = ((weight == 0) | (wanted > 0)) & ~positive & ~forced
    if code == 'redmon':  # the file calls an anchor ignored if its delta is zero
        ignored &= raw.obj.sigmoid() > 0
        owner = torch.where(~positive & forced, best, _owners(slots))
        case.table({'thresh_pos': forced.unflatten(2, size), 'gt_index': owner.unflatten(2, size)})
        case.compare('printed', printed_values(slots, raw, output, (0.5, 0.75)), PRINTED)
    case.compare('ignore', ignored.unflatten(2, size))


def _yolov3_criterion(case: Case, code: str) -> YOLOV3Loss:
    names = ('ignore', 'truth')
    thresholds = {f'{name}_threshold': case.number(f'opt_{name}_thresh') for name in names}
    if code == 'redmon':
        return YOLOV3Loss(**thresholds)
    bound, counters = case.number('opt_max_delta'), 'opt_counters_per_class'
    return YOLOV3Loss(
        box=BOX_TERMS[case.number('opt_iou_loss')],
        code='alexeyab',
        max_delta=None if bound > UNLIMITED else bound,
        label_smoothing=case.number('opt_label_smooth_eps'),
        objectness_smooth=case.flag('opt_objectness_smooth'),
        focal=case.flag('opt_focal_loss'),
        class_counters=case[counters].tolist() if counters in case else None,
        **case.options('opt_{}', 'iou_normalizer', 'obj_normalizer', 'cls_normalizer'),
        **thresholds,
    )


def _compare_yolo_deltas(
    case: Case, x: Tensor, losses: dict[str, Tensor], count: int, precise: Tensor
) -> None:
    """``precise``: the delta of a float64 run, for the division by the logistic derivative."""
    delta = -x.grad.double()
    if 'delta_logit' in case:
        case.compare('delta_logit', delta, **DELTA)
        score = x.detach().double().sigmoid()
        delta = precise / (score * (1 - score))
    case.compare('delta', delta, **DELTA)
    case.table({k.replace('loss', 'pot'): value for k, value in losses.items()}, SUM)
    squares = delta.square().unflatten(1, (count, -1))
    total, boxes = squares.sum(), squares[:, :, :4].sum()
    if 'opt_obj_normalizer' not in case:
        case.compare('cost', total, SUM)
        return
    rest = (total - boxes) * case.number('opt_obj_normalizer')
    cost = losses['loss_box'].detach() + rest if 'loss_box' in losses else total
    case.compare('cost', cost, SUM)
    printed = torch.stack((rest, total - rest, total)) / len(x)
    case.compare('printed', torch.cat((torch.zeros(2), printed)), SUM, where=np.s_[2:])


def layer_output(encoder: DarknetTargetEncoder, raw: RawLevel, grid: Grid) -> Tensor:
    """The output (B, A * (5 + C), H, W) of a [yolo] layer; sizes in the exp form stay raw."""
    obj, cls = encoder.scores(raw)
    wh = raw.wh.sigmoid() if grid.squared else raw.wh
    return maps.join_level(RawLevel(grid.every().offset(raw.xy), wh, obj, cls), grid.size)


def _compare_claims(case: Case, encoder: DarknetTargetEncoder, x: Tensor, slots: Slots) -> None:
    """Claims, and decoded boxes; ours are at most exp(20) anchors wide and high."""
    size, cells = slots.grid.size, slots.grid.cells
    number = torch.zeros(*slots.mask.shape[:2], cells, dtype=torch.int64)
    number = number.scatter_add(2, slots.index, slots.mask.long()).unflatten(2, size)
    case.table({'pos': number > 0, 'num_truth': number})
    if 'boxes' in case:
        boxes = decode_first(encoder, x, case.img_size())[0].unflatten(1, (-1, *size))
        bounded = (case['boxes'] < 1e5).all(-1)
        case.compare('boxes', boxes, tol=2e-7, each=EXACT, where=bounded)


def _owners(slots: Slots) -> Tensor:
    """Row of the object that each anchor stands for, the last one, or -1: (B, A, N)."""
    last = slots.last()
    order = torch.arange(slots.mask.shape[2]).expand_as(slots.index)
    return maps.put_cells(order, last.index, last.mask, slots.grid.cells, -1)


def printed_values(
    slots: Slots,
    raw: RawLevel,
    output: Tensor,
    levels: Sequence[float],
    counted: Tensor | None = None,
) -> Tensor:
    """Means of IoU, class score and objectness, all objectness, recalls, number of objects.

    ``counted``: the slots whose class score is part of the sum.
    """
    parts = output.unflatten(1, (slots.mask.shape[1], -1)).flatten(3)
    iou = darknet_iou(grids.slot_boxes(*grids.take_boxes(raw, slots), slots), slots.boxes)[
        slots.mask
    ]
    cls = take_cells(parts[:, :, 5:], slots.index).gather(-1, slots.labels[..., None])[..., 0]
    cls = cls * (slots.mask if counted is None else counted)
    obj = take_cells(parts[:, :, 4], slots.index)[slots.mask]
    means = [iou.mean(), cls.sum() / len(iou), obj.mean(), parts[:, :, 4].mean()]
    recalls = [(iou > level).float().mean() for level in levels]
    return torch.stack([*means, *recalls, torch.tensor(float(len(iou)))])


def yolov2(case: Case) -> None:
    """[region]: claims, deltas, cost, potentials, what the layer prints."""
    _use_other_input(case)
    x, count = case.leaf('x'), len(case['anchors'])
    (height, width), img_size = x.shape[2:], case.img_size()
    code = 'redmon' if 'opt_background' in case else 'alexeyab'
    case.skip('the [region] layer of AlexeyAB reads it for a softmax tree alone', 'opt_classfix')
    background, softmax = case.flag('opt_background'), case.flag('opt_softmax')
    stride = np.array([img_size[1] / width, img_size[0] / height])
    encoder = YOLOV2TargetEncoder(
        x.shape[1] // count - 5,
        [(case['anchors'] * stride).tolist()],
        softmax=softmax,
        background=background,
        code=code,
        class_map=case['opt_map'].tolist() if 'opt_map' in case else None,
        topk=None,
    )
    targets = _listed_targets(case, encoder, [(height, width)])
    criterion = YOLOV2Loss(
        no_object_scale=case.number('opt_noobject_scale'),
        code=code,
        softmax=softmax,
        background=background,
        rescore=case.flag('opt_rescore'),
        ignore_threshold=case.number('opt_thresh'),
        match_shape=case.flag('opt_bias_match'),
        **case.options('opt_{}', 'object_scale', 'class_scale', 'coord_scale'),
    ).eval()
    criterion.seen.fill_(case.number('seen'))
    losses = criterion(YOLOV2Outputs((x,)), targets)
    sum(losses.values()).backward()
    case.table({k.replace('loss', 'pot'): value for k, value in losses.items()}, SUM)
    _compare_region(case, encoder, targets, x, criterion)


def _compare_region(
    case: Case,
    encoder: YOLOV2TargetEncoder,
    targets: GridTargets,
    x: Tensor,
    criterion: YOLOV2Loss,
) -> None:
    """Deltas, activated outputs, claims, what the layer prints.

    Redmon's delta lacks the derivative of the sigmoid, which ``delta_logit`` has; AlexeyAB's delta
    has it, and its output is cell-major with raw x, y.
    """
    grid, count = targets.levels[0].grid, len(case['anchors'])
    raw, redmon = split_level(x.detach(), count), criterion.code == 'redmon'
    obj, cls = encoder.scores(raw)
    if criterion.background:
        obj = 1 - cls.sum(2)
    parts = (raw.xy.sigmoid() if redmon else raw.xy, raw.wh, obj.unsqueeze(2), cls)
    output = torch.cat(parts, 2).unflatten(3, grid.size)
    case.compare('output', output.flatten(1, 2) if redmon else output.permute(0, 3, 4, 1, 2), EXACT)
    logit = -x.grad.double().unflatten(1, (count, -1))
    slope = torch.ones_like(logit)
    slope[:, :, :2] = (raw.xy.sigmoid() * (1 - raw.xy.sigmoid())).unflatten(3, grid.size)
    if not criterion.background:
        slope[:, :, 4] = (obj * (1 - obj)).unflatten(2, grid.size)
    plain = logit / slope
    delta = (plain if redmon else logit).flatten(1, 2)
    case.compare('delta_logit', logit.flatten(1, 2), **DELTA)
    case.compare('delta', delta, **(dict(tol=3e-6, each=5e-6) if redmon else DELTA))
    case.compare('cost', delta.square().sum(), SUM)
    slots = object_slots(targets.levels[0], targets)
    if not criterion.match_shape:
        wh = take_cells(raw.wh, slots.index)
        slots = slots._replace(mask=claims_by_current_size(wh, slots, targets))
    _compare_claims(case, encoder, x.detach(), slots)
    case.compare('gt_index', _owners(slots).unflatten(2, grid.size))
    positive = slots.claimed().unflatten(2, grid.size)
    case.compare('ignore', (plain[:, :, 4] == 0) & ~positive)
    wanted = obj.unflatten(2, grid.size) + plain[:, :, 4] / criterion.object_scale
    case.compare('obj_target', torch.where(positive, wanted, 0), atol=8e-6)
    counted = None  # without softmax, a later object of an anchor is not part of the mean
    if not criterion.softmax:
        counted = maps.first_in_cell(slots.index, slots.mask, grid.cells)
    printed = printed_values(slots, raw, output.flatten(1, 2), (0.5,), counted)
    case.compare('printed', printed, PRINTED)
