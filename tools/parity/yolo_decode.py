"""Golden checks of darknet's loader, and of its decoding and NMS."""

from __future__ import annotations

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core import postprocess
from mmdet_losses.data import DarknetLetterBox
from mmdet_losses.detectors.yolo import (
    YOLOV1TargetEncoder,
    YOLOV2TargetEncoder,
    YOLOV3TargetEncoder,
)
from mmdet_losses.ops import box_center, box_size, boxes_around
from tools.parity import yolo
from tools.parity.golden import EXACT, Case, Check

KINDS = {
    'do_nms_sort': dict(type='nms'),
    'greedynms': dict(type='darknet_nms', kind='diou'),
    'diounms': dict(type='darknet_nms', kind='diou'),
}


def loader(case: Case) -> None:
    """What darknet's loader makes of boxes: lists (v2 to v4) and grids (v1)."""
    case.skip("the loader's input; gt_boxes are the same in pixels", 'boxes_in_file')
    classes = case.number('num_classes')
    for key in case.names('list_max*'):
        want = case[key]
        encoder = YOLOV3TargetEncoder(
            classes, [[(10, 10)]], max_objects=want.shape[1], code='alexeyab'
        )
        targets = encoder.encode(case.instances(), [(4, 4)], case.img_size())
        case.compare(key, yolo.listed(targets, want), EXACT)
    dropped = zip(case.instances(), case.tensor('grid_dropped').bool(), strict=True)
    instances = [each[~mask[: len(each)]] for each, mask in dropped]
    for key in case.names('grid_s*'):
        size = case[key].shape[1:3]
        targets = YOLOV1TargetEncoder(classes).encode(instances, [size], case.img_size())
        case.compare(key, yolo.grid_rows(targets, classes), EXACT)


def decode(case: Case) -> None:
    """Decoded boxes, and the detections after each of the three kinds of NMS."""
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
    case.table({'boxes': cxcywh, 'objectness': objects, 'prob': prob})
    threshold = case.number('nms_thresh')
    for kind, config in KINDS.items():
        if f'{kind}_boxes' in case:
            table = after_nms(boxes, prob, dict(nms=dict(iou_threshold=threshold, **config)))
            alive = table.amax(1) > 0
            names = [f'{kind}_boxes', f'{kind}_prob']
            want = np.concatenate([case[name] for name in names], 1)
            got = torch.cat((cxcywh, table), 1)[alive]
            case.compare_rows(', '.join(names), got, want, EXACT)


def after_nms(boxes: Tensor, prob: Tensor, config: dict) -> Tensor:
    """Probabilities (n, C) of every box, 0 where the threshold or NMS drops them."""
    row, label = prob.nonzero(as_tuple=True)
    pairs = InstanceData(bboxes=boxes[row], scores=prob[row, label], labels=label, row=row)
    kept = postprocess(pairs, {}, config)
    table = torch.zeros_like(prob)
    table[kept.row, kept.labels] = kept.scores
    return table


def _decode_case(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes xyxy in the file's frame, objectness and class scores, in darknet's order."""
    width, height = case.size('image_wh')
    if 'x' not in case:
        case.skip('a [detection] layer has no letter box', 'letter')
        cls, conf, box = (case.tensor(f'pred_{name}') for name in ('cls', 'conf', 'box'))
        outputs = yolo.v1_outputs(cls, conf, box)
        count, size = conf.shape[3], cls.shape[1:3]
        decoded = YOLOV1TargetEncoder(cls.shape[3], count).decode_all(outputs, (height, width))
        return tuple(cell_major(each, count, size) for each in decoded)
    x, input_size = case.tensor('x'), case.img_size()
    if 'mask' in case:
        count = len(case['mask'])
        encoder, _ = yolo.encoder_of(case, x.shape[1] // count - 5)
    else:
        count = len(case['anchors'])
        stride = np.array([input_size[1] / x.shape[3], input_size[0] / x.shape[2]])
        anchors = [(case['anchors'] * stride).tolist()]
        encoder = YOLOV2TargetEncoder(x.shape[1] // count - 5, anchors)
    decoded = yolo.decode_first(encoder, x, input_size)
    rows, objects, scores = (cell_major(each, count, x.shape[2:]) for each in decoded)
    boxes = boxes_around(rows[:, :2], rows[:, 2:])
    if case.number('letter'):
        boxes = _without_letter_box(boxes, input_size, (height, width))
    return boxes, objects, scores


def cell_major(values: Tensor, count: int, size: tuple[int, ...]) -> Tensor:
    """(1, A * H * W, ...) to (H * W * A, ...)."""
    return values[0].unflatten(0, (count, size[0] * size[1])).transpose(0, 1).flatten(0, 1)


def _without_letter_box(
    boxes: Tensor, input_size: tuple[int, int], image_size: tuple[int, int]
) -> Tensor:
    """Fractions of the network input to fractions of the image, by our transform's meta data."""
    meta = DarknetLetterBox(input_size[::-1])({'img': np.zeros((*image_size, 3), np.uint8)})
    scale = torch.tensor(input_size[::-1]).repeat(2)
    pairs = InstanceData(bboxes=boxes * scale, scores=torch.ones(len(boxes)))
    result = postprocess(pairs, meta, {}, rescale=True)
    return result.bboxes / torch.tensor(image_size[::-1]).repeat(2)


CHECKS: dict[str, Check] = {
    'yolov1_loss': yolo.yolov1,
    'yolov2_loss': yolo.yolov2,
    'yolov3_loss': yolo.yolov3,
    'yolov4_loss': yolo.yolov3,
    'yolov4csp_darknet_loss': yolo.yolov3,
    'redmon_yolov1_loss': yolo.yolov1,
    'redmon_yolov2_loss': yolo.yolov2,
    'redmon_yolov3_loss': yolo.yolov3,
    'darknet_truth': loader,
    'darknet_decode': decode,
}
