"""IoU measures of darknet, and its update directions, which are not their gradients.

Found from darknet's numbers (see the README of the YOLO configs): the IoU part of the size
direction is twice the derivative; the hull part of the position direction has the opposite sign;
boxes that do not overlap have only the hull or distance part; nothing is clamped; comparisons are
strict, so a perfect prediction shrinks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmdet_losses.ops.choices import check_choice
from mmdet_losses.ops.constant import constant
from mmdet_losses.ops.paired_iou import IOU_MODES, IoUMode

_DISTANCE_POWER = 0.6


def darknet_iou(first: Tensor, second: Tensor, mode: IoUMode = 'iou') -> Tensor:
    """darknet's IoU, GIoU, DIoU or CIoU of boxes (..., 4) cxcywh, broadcast; (...).

    Convention:
        DIoU raises the normalised distance to the power 0.6. The alpha of CIoU has 1e-6 in its
        denominator, and is NaN for a box of 0 x 0. The IoU is 0 if intersection or union is 0.

    Raises:
        ValueError: an unknown mode.
    """
    check_choice('mode', mode, IOU_MODES)
    low = torch.maximum(_low(first), _low(second))
    inner = torch.minimum(_high(first), _high(second)) - low
    inter = torch.where((inner < 0).any(-1), 0, inner.prod(-1))
    union = first[..., 2:].prod(-1) + second[..., 2:].prod(-1) - inter
    empty = (inter == 0) | (union == 0)
    iou = torch.where(empty, 0, inter / torch.where(empty, 1, union))
    if mode == 'iou':
        return iou
    hull = torch.maximum(_high(first), _high(second)) - torch.minimum(_low(first), _low(second))
    if mode == 'giou':
        area = hull.prod(-1)
        return torch.where(area == 0, iou, iou - (area - union) / area)
    diagonal = hull.square().sum(-1)
    ratio = (first[..., :2] - second[..., :2]).square().sum(-1) / diagonal
    if mode == 'diou':
        return torch.where(diagonal == 0, iou, iou - ratio**_DISTANCE_POWER)
    gap, _ = _aspect(first, second)
    alpha = gap / (1 - iou + gap + 1e-6)
    return torch.where(diagonal == 0, iou, iou - ratio - alpha * gap)


def darknet_iou_direction(pred: Tensor, target: Tensor, mode: IoUMode = 'ciou') -> Tensor:
    """Direction in which darknet moves cx, cy, w, h of ``pred``: (..., 4); NaN as in darknet.

    Shape:
        pred, target: (..., 4) cxcywh.

    Raises:
        ValueError: an unknown mode.
    """
    check_choice('mode', mode, IOU_MODES)
    width_height = pred[..., 2:]
    low_p, high_p = _ordered(pred)
    low_t, high_t = _ordered(target)
    inner = torch.minimum(high_p, high_t) - torch.maximum(low_p, low_t)
    side = high_p - low_p
    inter = inner.prod(-1, keepdim=True)
    union = side.prod(-1, keepdim=True) + (high_t - low_t).prod(-1, keepdim=True) - inter
    hull = torch.maximum(high_p, high_t) - torch.minimum(low_p, low_t)

    # Derivatives by the low (left, top) and high (right, bottom) edges, x and y.
    d_area = torch.stack((-side.flip(-1), side.flip(-1)))
    d_inter = torch.stack((-inner.flip(-1) * (low_p > low_t), inner.flip(-1) * (high_p < high_t)))
    d_union = d_area - d_inter
    d_edge = torch.where(union > 0, (union * d_inter - inter * d_union) / union**2, 0)
    # Both edges of an empty box take the derivative of the high one.
    d_edge = torch.stack((torch.where(low_p < high_p, d_edge[0], d_edge[1]), d_edge[1]))
    apart = (inner <= 0).any(-1, keepdim=True)
    if mode == 'giou':
        area = hull.prod(-1, keepdim=True)
        d_hull = torch.stack((-hull.flip(-1) * (low_p < low_t), hull.flip(-1) * (high_p > high_t)))
        penalty = (area * d_union - union * d_hull) / area**2
        d_edge = torch.where(apart, penalty, d_edge + torch.where(area > 0, penalty, 0))
    direction = torch.cat((d_edge.sum(0), d_edge[1] - d_edge[0]), -1)
    if mode in ('iou', 'giou'):
        return direction

    grows_low, grows_high = (low_p < low_t).to(pred), (high_p > high_t).to(pred)
    d_position, d_size = grows_high - grows_low, (grows_high + grows_low) / 2
    gap = target[..., :2] - pred[..., :2]
    distance = gap.square().sum(-1, keepdim=True)
    diagonal = hull.square().sum(-1, keepdim=True)
    square = diagonal * diagonal
    move = (2 * gap * diagonal - 2 * hull * d_position * distance) / square
    resize = 2 * hull * d_size * distance / square
    if mode == 'ciou':
        value, angles = _aspect(pred, target)
        iou = (inter / union).squeeze(-1)
        alpha = value / (1 - iou + value + 1e-6)
        slope = 8 / math.pi**2 * alpha * angles
        resize = resize + slope[..., None] * width_height.flip(-1) * constant([1.0, -1.0], pred)
    pull = torch.cat((move, resize), -1)
    return torch.where(apart, pull, direction + torch.where(diagonal > 0, pull, 0))


def _low(boxes: Tensor) -> Tensor:
    return boxes[..., :2] - boxes[..., 2:] / 2


def _high(boxes: Tensor) -> Tensor:
    return boxes[..., :2] + boxes[..., 2:] / 2


def _ordered(boxes: Tensor) -> tuple[Tensor, Tensor]:
    low, high = _low(boxes), _high(boxes)
    return torch.minimum(low, high), torch.maximum(low, high)


def _aspect(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The v of CIoU and the difference of the angles; 0 / 0 is NaN, as in darknet."""
    angles = torch.atan(target[..., 2] / target[..., 3]) - torch.atan(pred[..., 2] / pred[..., 3])
    return 4 / math.pi**2 * angles.square(), angles
