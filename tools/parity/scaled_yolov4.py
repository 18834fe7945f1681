"""Golden checks of the authors' PyTorch Scaled-YOLOv4."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmdet_losses.core import postprocess
from mmdet_losses.detectors.yolo import (
    ScaledYOLOV4Loss,
    ScaledYOLOV4Outputs,
    ScaledYOLOV4TargetEncoder,
    ScaledYOLOV4Targets,
)
from mmdet_losses.detectors.yolo.contracts import ScaledLevel
from mmdet_losses.ops import box_center, box_size
from tools.parity.golden import EXACT, Case, Check, columns


def loss(case: Case) -> None:
    """Positives, targets, terms and gradients."""
    count = len(case.names('p[0-9]'))
    height, width = case.img_size()
    classes = case.number('num_classes')
    box, cls, cls_pw, obj, obj_pw, threshold, gamma = case.decimals('hyp')
    feats, anchors = [], []
    for level in range(count):
        rows, columns = case[f'p{level}'].shape[2:4]
        feats.append((rows, columns))
        pixels = np.array([width / columns, height / rows])
        anchors.append((case[f'anchors{level}'].astype(np.float64) * pixels).tolist())
    encoder = ScaledYOLOV4TargetEncoder(classes, anchors, anchor_threshold=threshold)
    targets = encoder.encode(case.instances(), feats, (height, width))
    criterion = ScaledYOLOV4Loss(
        box_gain=box,
        obj_gain=obj,
        cls_gain=cls * 80 / classes,
        obj_pos_weight=obj_pw,
        cls_pos_weight=cls_pw,
        iou_ratio=case.number('gr'),
        gamma=gamma,
    )
    leaves = [case.leaf(f'p{level}') for level in range(count)]
    maps = tuple(leaf.permute(0, 1, 4, 2, 3).flatten(1, 2) for leaf in leaves)
    losses = criterion(ScaledYOLOV4Outputs(maps), targets)
    total = sum(losses.values())
    total.backward()
    batch = len(leaves[0])
    _compare_targets(case, targets, criterion, leaves)
    table = {f'l{name}': losses[f'loss_{name}'] / batch for name in ('box', 'obj', 'cls')}
    case.table({**table, 'loss_sum': total / batch, 'loss_total': total})
    case.table({f'grad{level}': leaf.grad for level, leaf in enumerate(leaves)}, 2e-6)


def _official_order(level: ScaledLevel, values: Tensor) -> Tensor:
    """Slots (B, A, 5 * M, ...) that are positive, ordered by neighbour, anchor, image, object."""

    def order(each: Tensor) -> Tensor:
        five = each.unflatten(2, (5, -1))
        return five.permute(2, 1, 0, 3, *range(4, five.dim())).flatten(0, 3)

    return order(values)[order(level.mask)]


def _compare_targets(
    case: Case, targets: ScaledYOLOV4Targets, criterion: ScaledYOLOV4Loss, leaves: list[Tensor]
) -> None:
    case.skip('the ground truth as fractions of the image, which ours does not list', 'targets')
    for number, level in enumerate(targets.levels):
        shape = level.index.shape
        image = torch.arange(shape[0])[:, None, None].expand(shape)
        anchor = torch.arange(shape[1])[:, None].expand(shape)
        row, column = level.index // level.grid.size[1], level.index % level.grid.size[1]
        index = torch.stack((image, anchor, row, column), -1)
        for key, value in {'indices': index, 'tcls': level.labels, 'tbox': level.box}.items():
            found, tol = _official_order(level, value), EXACT if key == 'tbox' else 0.0
            case.compare(f'{key}{number}', found, tol, empty='no object fits an anchor of this map')
        tobj = _objectness(level, criterion, leaves[number].detach())
        case.compare(f'tobj{number}', tobj, EXACT)


def _objectness(level: ScaledLevel, criterion: ScaledYOLOV4Loss, leaf: Tensor) -> Tensor:
    """The objectness target, read back from the gradient that it leaves.

    The slope of one cross-entropy per cell is sigmoid(x) - target (positive weight 1, no focus).
    """
    plain = ScaledYOLOV4Loss(
        loss_box=criterion.loss_box, iou_ratio=criterion.iou_ratio, balance=[1.0]
    )
    maps = leaf.double().permute(0, 1, 4, 2, 3).flatten(1, 2).requires_grad_()
    one = ScaledYOLOV4Targets((level,), torch.zeros(()), torch.zeros(()))
    plain(ScaledYOLOV4Outputs((maps,)), one)['loss_obj'].backward()
    count = leaf[..., 4].numel()
    grad = maps.grad.unflatten(1, (leaf.shape[1], -1))[:, :, 4]
    return leaf[..., 4].double().sigmoid() - grad * count / (3 * len(leaf))


def decode(case: Case) -> None:
    """Decoded predictions, and the detections after NMS."""
    count, strides = len(case.names('x[0-9]')), case['strides'].tolist()
    maps = tuple(case.tensor(f'x{level}') for level in range(count))
    size = (int(maps[0].shape[2] * strides[0]), int(maps[0].shape[3] * strides[0]))
    threshold = case.number('conf_thres')
    encoder = ScaledYOLOV4TargetEncoder(
        case.number('num_classes'),
        [case[f'anchors{level}'].tolist() for level in range(count)],
        strides=strides,
        topk=None,
        score_thr=threshold,
    )
    outputs = ScaledYOLOV4Outputs(maps)
    boxes, objects, classes = encoder.decode_all(outputs, size)
    z = torch.cat((box_center(boxes), box_size(boxes), objects[..., None], classes), -1)
    case.compare('z', z, EXACT)
    nms = dict(type='nms', iou_threshold=case.number('iou_thres'))
    config = dict(score_thr=threshold, nms=nms, max_per_img=300)
    for image, instances in enumerate(encoder.decode(outputs, size)):
        kept = postprocess(instances, {}, config)
        rows = columns(kept, 'bboxes', 'scores', 'labels')
        case.compare_rows(f'nms{image}', rows, tol=[EXACT] * 5 + [0.0])


CHECKS: dict[str, Check] = {'scaled_yolov4_loss': loss, 'scaled_yolov4_decode': decode}
