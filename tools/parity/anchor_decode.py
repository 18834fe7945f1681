"""Golden numbers of darknet's loader and of its decoding against this package."""

from __future__ import annotations

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core import postprocess
from mmdet_losses.detectors.yolo import (
    YOLOV1Outputs,
    YOLOV1TargetEncoder,
    YOLOV2Outputs,
    YOLOV2TargetEncoder,
    YOLOV3TargetEncoder,
)
from mmdet_losses.ops import box_center, box_size
from tools.parity.anchor_grid import add, decode_first, encoder_of, listed_gt
from tools.parity.golden import Case, GoldenCases, complete
from tools.parity.rows import Row, compare


def gt_lists(golden: GoldenCases) -> list[Row]:
    """What darknet's loader makes of boxes: lists (v2 to v4) and grids (v1)."""
    rows: list[Row] = []
    for case in golden:
        case.skip('boxes_in_file')  # the loader's input; gt_boxes are the same in pixels
        classes = int(case['num_classes'])
        for key in case.arrays:
            if key.startswith('list_max'):
                rows.append(_gt_list(golden.name, case, key, classes))
            if key.startswith('grid_s'):
                grid = gt_grid(case.instances_without('grid_dropped'), case, key, classes)
                rows.append(compare(golden.name, case.label(key), grid, case[key], 1e-6))
    return rows


def _gt_list(file: str, case: Case, key: str, classes: int) -> Row:
    want = case[key]
    encoder = YOLOV3TargetEncoder(classes, [[(10, 10)]], max_objects=want.shape[1], code='alexeyab')
    targets = encoder.encode(case.instances(), [(4, 4)], case.img_size())
    got = listed_gt(targets, want)
    return compare(file, case.label(key), got, want, 1e-6)


def gt_grid(instances: list, case: Case, key: str, classes: int) -> Tensor:
    """(B, S, S, 1 + C + 4): is object, one-hot class, x, y, w, h."""
    side = case[key].shape[1]
    targets = YOLOV1TargetEncoder(classes).encode(instances, [(side, side)], case.img_size())
    own = (targets.labels[..., None] == torch.arange(classes)) & targets.mask[..., None]
    parts = (targets.mask[..., None].float(), own.float(), targets.box.movedim(1, -1))
    return torch.cat(parts, -1)


def darknet_decode(golden: GoldenCases) -> list[Row]:
    """Decoded boxes, and the detections after each of the three kinds of NMS."""
    rows: list[Row] = []
    for case in golden:
        boxes, objects, scores = _decode_case(case)
        thresh = case.number('thresh')
        prob = objects[:, None] * scores
        prob = torch.where(prob > thresh, prob, 0)
        if 'mask' in case:  # [yolo] drops, [detection] and [region] keep
            kept = objects > thresh
            boxes, objects, prob = boxes[kept], objects[kept], prob[kept]
        elif 'anchors' in case:
            objects = torch.ones_like(objects)  # what a [region] layer reports
        cxcywh = torch.cat((box_center(boxes), box_size(boxes)), -1)
        unit = float(np.abs(case['boxes']).max())  # pixels for [detection], fractions else
        add(rows, golden.name, case, 'boxes', cxcywh, atol=1e-6 * max(1, unit), rtol=1e-6)
        add(rows, golden.name, case, 'objectness', objects, atol=1e-6)
        add(rows, golden.name, case, 'prob', prob, atol=1e-6)
        threshold = case.number('nms_thresh')
        kinds = {
            'do_nms_sort': dict(type='nms', iou_threshold=threshold),
            'greedynms': dict(type='darknet_nms', kind='diou', iou_threshold=threshold),
            'diounms': dict(type='darknet_nms', kind='diou', iou_threshold=threshold),
        }
        for kind, config in kinds.items():
            if f'{kind}_boxes' in case:
                rows += _survivors(golden.name, case, kind, config, boxes, prob)
    return rows


def _decode_case(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes xyxy in the file's frame, objectness and class scores, in darknet's order."""
    width, height = case['image_wh'].tolist()
    if 'x' not in case:
        case.skip('letter')  # a [detection] layer takes no notice of it
        cls, conf, box = (case.tensor(key) for key in ('pred_cls', 'pred_conf', 'pred_box'))
        outputs = YOLOV1Outputs(
            cls.permute(0, 3, 1, 2), conf.permute(0, 3, 1, 2), box.permute(0, 3, 4, 1, 2)
        )
        count, size = conf.shape[3], cls.shape[1:3]
        decoded = YOLOV1TargetEncoder(cls.shape[3], count).decode_all(outputs, (height, width))
        return tuple(cell_major(each, count, size) for each in decoded)
    x = case.tensor('x')
    size = tuple(x.shape[2:])
    count = len(case['mask']) if 'mask' in case else len(case['anchors'])
    classes = x.shape[1] // count - 5
    input_size = case.img_size()
    if 'mask' in case:
        encoder, _ = encoder_of(case, classes)
        decoded = decode_first(encoder, x, (1, 1), input_size)
    else:
        anchors = [(case['anchors'] / np.array(size[::-1])).tolist()]
        decoded = YOLOV2TargetEncoder(classes, anchors).decode_all(YOLOV2Outputs((x,)), (1, 1))
    boxes, objects, scores = (cell_major(each, count, size) for each in decoded)
    return _undo_letterbox(boxes, case, (width, height), input_size), objects, scores


def cell_major(values: Tensor, count: int, size: tuple[int, ...]) -> Tensor:
    """(1, A * H * W, ...) to (H * W * A, ...)."""
    return values[0].unflatten(0, (count, size[0] * size[1])).transpose(0, 1).flatten(0, 1)


def _undo_letterbox(
    boxes: Tensor, case: Case, image: tuple[int, int], input_size: tuple[int, int]
) -> Tensor:
    """Fractions of the network input to fractions of the image that was padded into it."""
    if not int(case['letter']):
        return boxes
    (width, height), (net_h, net_w) = image, input_size
    if net_w / width < net_h / height:
        new_w, new_h = net_w, height * net_w // width
    else:
        new_w, new_h = width * net_h // height, net_h
    offset = torch.tensor([(net_w - new_w) / 2 / net_w, (net_h - new_h) / 2 / net_h])
    scale = torch.tensor([net_w / new_w, net_h / new_h])
    return (boxes - offset.repeat(2)) * scale.repeat(2)


def _survivors(
    file: str, case: Case, kind: str, config: dict, boxes: Tensor, prob: Tensor
) -> list[Row]:
    row, label = prob.nonzero(as_tuple=True)
    pairs = InstanceData(bboxes=boxes[row], scores=prob[row, label], labels=label, row=row)
    kept = postprocess(pairs, {}, dict(nms=config))
    table = torch.zeros_like(prob)
    table[kept.row, kept.labels] = kept.scores
    alive = table.amax(1) > 0
    got = torch.cat((box_center(boxes), box_size(boxes), table), 1)[alive]
    want = torch.from_numpy(np.concatenate((case[f'{kind}_boxes'], case[f'{kind}_prob']), 1))
    if got.shape == want.shape:  # a set: pair each with the nearest
        got = got[torch.cdist(want.double(), got.double()).argmin(1)]
    return [
        compare(file, case.label(kind), got, want.numpy(), 1e-6 * max(1, float(want.abs().max())))
    ]


CHECKS = {'darknet_truth': complete(gt_lists), 'darknet_decode': complete(darknet_decode)}
