"""Golden numbers of the authors' PyTorch Scaled-YOLOv4 against this package."""

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
from tools.parity.golden import Case, GoldenCases, complete
from tools.parity.rows import Row, compare


def _count(case: Case, stem: str) -> int:
    return sum(f'{stem}{level}' in case for level in range(8))


def scaled_loss(golden: GoldenCases) -> list[Row]:
    """Positives, targets, terms and gradients."""
    rows = []
    for case in golden:
        count = _count(case, 'p')
        height, width = case.img_size()
        classes = int(case['num_classes'])
        box, cls, cls_pw, obj, obj_pw, threshold, gamma = case['hyp'].tolist()
        feats, anchors = [], []
        for level in range(count):
            rows_, columns = case[f'p{level}'].shape[2:4]
            feats.append((rows_, columns))
            pixels = np.array([width / columns, height / rows_])
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
        rows += _targets(golden.name, case, targets, criterion, leaves)
        got = {
            'lbox': losses['loss_box'] / batch,
            'lobj': losses['loss_obj'] / batch,
            'lcls': losses['loss_cls'] / batch,
            'loss_sum': total / batch,
            'loss_total': total,
        }
        for key, value in got.items():
            rows.append(compare(golden.name, case.label(key), value, case[key], 1e-6, 1e-6))
        for level, leaf in enumerate(leaves):
            key = f'grad{level}'
            largest = float(np.abs(case[key]).max())
            atol = 1e-8 + 2e-6 * largest
            rows.append(compare(golden.name, case.label(key), leaf.grad, case[key], atol))
    return rows


def _official_order(level: ScaledLevel, values: Tensor) -> Tensor:
    """Slots (B, A, 5 * M, ...) that are positive, ordered by neighbour, anchor, image, object."""

    def order(each: Tensor) -> Tensor:
        five = each.unflatten(2, (5, -1))
        return five.permute(2, 1, 0, 3, *range(4, five.dim())).flatten(0, 3)

    return order(values)[order(level.mask)]


def _targets(
    file: str,
    case: Case,
    targets: ScaledYOLOV4Targets,
    criterion: ScaledYOLOV4Loss,
    leaves: list[Tensor],
) -> list[Row]:
    rows = []
    height, width = case.img_size()
    scale = torch.tensor([width, height])
    listed = []
    for image, instances in enumerate(case.instances()):
        first = torch.full((len(instances), 1), float(image))
        boxes = instances.bboxes
        fractions = torch.cat((box_center(boxes) / scale, box_size(boxes) / scale), 1)
        listed.append(torch.cat((first, instances.labels[:, None].float(), fractions), 1))
    rows.append(compare(file, case.label('targets'), torch.cat(listed), case['targets'], 1e-6))
    for number, level in enumerate(targets.levels):
        shape = level.index.shape
        image = torch.arange(shape[0])[:, None, None].expand(shape)
        anchor = torch.arange(shape[1])[:, None].expand(shape)
        row, column = level.index // level.grid.size[1], level.index % level.grid.size[1]
        index = torch.stack((image, anchor, row, column), -1)
        got = {'indices': index, 'tcls': level.labels}
        for key, value in got.items():
            key = f'{key}{number}'
            found = _official_order(level, value)
            rows.append(compare(file, case.label(key), found, case[key]))
        found = _official_order(level, level.box)
        rows.append(compare(file, case.label(f'tbox{number}'), found, case[f'tbox{number}'], 1e-5))
        tobj = _objectness(level, criterion, leaves[number].detach())
        rows.append(compare(file, case.label(f'tobj{number}'), tobj, case[f'tobj{number}'], 1e-6))
    return rows


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


def scaled_decode(golden: GoldenCases) -> list[Row]:
    """Decoded predictions, and the detections after NMS."""
    rows = []
    for case in golden:
        count = _count(case, 'x')
        strides = case['strides'].tolist()
        maps = tuple(case.tensor(f'x{level}') for level in range(count))
        size = (int(maps[0].shape[2] * strides[0]), int(maps[0].shape[3] * strides[0]))
        encoder = ScaledYOLOV4TargetEncoder(
            int(case['num_classes']),
            [case[f'anchors{level}'].tolist() for level in range(count)],
            strides=strides,
            topk=None,
            score_thr=case.number('conf_thres'),
        )
        outputs = ScaledYOLOV4Outputs(maps)
        boxes, objects, classes = encoder.decode_all(outputs, size)
        z = torch.cat((box_center(boxes), box_size(boxes), objects[..., None], classes), -1)
        rows.append(compare(golden.name, case.label('z'), z, case['z'], 1e-5, 2e-6))
        config = dict(
            score_thr=case.number('conf_thres'),
            nms=dict(type='nms', iou_threshold=case.number('iou_thres')),
            max_per_img=300,
        )
        for image, instances in enumerate(encoder.decode(outputs, size)):
            kept = postprocess(instances, {}, config)
            got = torch.cat(
                (kept.bboxes, kept.scores[:, None], kept.labels[:, None].to(kept.bboxes)), 1
            )
            key = f'nms{image}'
            rows.append(compare(golden.name, case.label(key), got, case[key], 1e-4, 1e-5))
    return rows


CHECKS = {
    'scaled_yolov4_loss': complete(scaled_loss),
    'scaled_yolov4_decode': complete(scaled_decode),
}
