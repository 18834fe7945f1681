"""IoU measures of darknet, and its update directions, which are not their gradients.

Found from darknet's numbers (see the README of the YOLO configs): the IoU part of the size
direction is twice the derivative; the hull part of the position direction has the opposite sign;
boxes that do not overlap have only the hull or distance part; nothing is clamped; comparisons are
strict, so a perfect prediction shrinks.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mmdet_losses.ops.choices import check_choice
from mmdet_losses.ops.constant import constant, zero_unless
from mmdet_losses.ops.kernels.launch import gpu_kernels, use_triton
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
    inter = torch.where((inner < 0).any(-1), constant(0, inner), inner.prod(-1))
    union = first[..., 2:].prod(-1) + second[..., 2:].prod(-1) - inter
    empty = (inter == 0) | (union == 0)
    iou = torch.where(empty, constant(0, inter), inter / union)
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
    angles = [torch.atan(each[..., 2] / each[..., 3]) for each in (first, second)]
    gap = 4 / math.pi**2 * (angles[1] - angles[0]).square()
    alpha = gap / (1 - iou + gap + 1e-6)
    return torch.where(diagonal == 0, iou, iou - ratio - alpha * gap)


def darknet_iou_direction(pred: Tensor, target: Tensor, mode: IoUMode = 'ciou') -> Tensor:
    """Direction in which darknet moves cx, cy, w, h of ``pred``: (..., 4); NaN as in darknet.

    Shape:
        pred, target: (..., 4) cxcywh.

    Raises:
        ValueError: an unknown mode.
    """
    return darknet_direction_and_iou(pred, target, mode)[0]


def darknet_direction_and_iou(
    pred: Tensor, target: Tensor, mode: IoUMode = 'ciou'
) -> tuple[Tensor, Tensor]:
    """:func:`darknet_iou_direction` and the plain IoU (...), 0 if the boxes do not overlap.

    One launch on a GPU.

    Raises:
        ValueError: an unknown mode.
    """
    check_choice('mode', mode, IOU_MODES)
    if use_triton(pred):
        return gpu_kernels('darknet_iou').direction_and_iou(pred, target, mode)
    pair = DarknetPair.of(pred, target)
    return pair.direction(mode), pair.iou()


class DarknetPair(NamedTuple):
    """Two boxes and their overlap.

    The first dimension of an entry with two values is prediction, target, or low edges (left,
    top), high edges (right, bottom).
    """

    boxes: Tensor
    """(2, ..., 4) cxcywh."""
    edges: Tensor
    """(2, 2, ..., 2) low and high edges of both boxes; those of inverted boxes are exchanged."""
    side: Tensor
    """(2, ..., 2)."""
    inner: Tensor
    """(..., 2) sides of the intersection, negative along an axis where the boxes do not meet."""
    inter: Tensor
    """(..., 1) area of the intersection, if the boxes meet."""
    union: Tensor
    """(..., 1)."""
    ratio: Tensor
    """(..., 1) intersection over union, if the boxes meet."""
    apart: Tensor
    """(..., 1) bool: the boxes do not overlap."""

    @classmethod
    def of(cls, pred: Tensor, target: Tensor) -> DarknetPair:
        """The pair of boxes (..., 4) cxcywh."""
        boxes = torch.stack((pred, target.to(pred)))
        halves = _signs(boxes, 0.5, boxes.dim() + 1)
        ends = torch.addcmul(boxes[..., :2], boxes[..., 2:], halves)
        edges = torch.stack((ends.amin(0), ends.amax(0)))
        side = edges[1] - edges[0]
        inner = edges[1].amin(0) - edges[0].amax(0)
        inter, area = inner.prod(-1, keepdim=True), side.prod(-1, keepdim=True)
        union = area[0] + area[1] - inter
        apart = (inner <= 0).any(-1, keepdim=True)
        return cls(boxes, edges, side, inner, inter, union, inter / union, apart)

    def iou(self) -> Tensor:
        """IoU (...); 0 if the boxes do not overlap."""
        return torch.where(self.apart, constant(0, self.ratio), self.ratio).squeeze(-1)

    def direction(self, mode: IoUMode) -> Tensor:
        """See :func:`darknet_iou_direction`."""
        side, inner, inter, union = self.side[0], self.inner, self.inter, self.union
        hull = self.edges[1].amax(0) - self.edges[0].amin(0)
        signs = _signs(side, 1.0, side.dim() + 1)
        outward = (self.edges[:, 0] - self.edges[:, 1]) * signs  # positive: outside the target

        # Derivatives by the low and high edges, x and y.
        d_area = side.flip(-1) * signs
        d_inter = inner.flip(-1) * ((outward < 0) * signs)
        d_union = d_area - d_inter
        d_edge = zero_unless(union > 0, (union * d_inter - inter * d_union) / union**2)
        # Both edges of an empty box take the derivative of the high one.
        d_low, d_high = torch.where(side > 0, d_edge[0], d_edge[1]), d_edge[1]
        if mode == 'giou':
            area = hull.prod(-1, keepdim=True)
            d_hull = hull.flip(-1) * ((outward > 0) * signs)
            penalty = (area * d_union - union * d_hull) / area**2
            both = torch.stack((d_low, d_high)) + zero_unless(area > 0, penalty)
            d_low, d_high = torch.where(self.apart, penalty, both)
        direction = torch.cat((d_low + d_high, d_high - d_low), -1)
        if mode in ('iou', 'giou'):
            return direction
        pull, diagonal = self._pull(hull, (outward > 0).to(hull), mode)
        return torch.where(self.apart, pull, direction + zero_unless(diagonal > 0, pull))

    def _pull(self, hull: Tensor, grows: Tensor, mode: IoUMode) -> tuple[Tensor, Tensor]:
        """Direction of distance and shape (..., 4), and the squared diagonal of the hull (..., 1).

        Args:
            grows: (2, ..., 2) ones where the low and high edges are those of the hull.
        """
        pred, target = self.boxes.unbind()
        gap = target[..., :2] - pred[..., :2]
        distance = gap.square().sum(-1, keepdim=True)
        diagonal = hull.square().sum(-1, keepdim=True)
        square, reach = diagonal * diagonal, hull * distance
        move = 2 * (gap * diagonal - reach * (grows[1] - grows[0])) / square
        resize = reach * (grows[0] + grows[1]) / square
        if mode == 'ciou':
            angle, angle_t = torch.atan(self.boxes[..., 2] / self.boxes[..., 3]).unbind()
            angles = angle_t - angle
            value = 4 / math.pi**2 * angles.square()
            alpha = value / (1 - self.ratio.squeeze(-1) + value + 1e-6)
            slope = 8 / math.pi**2 * alpha * angles
            turn = pred[..., 2:].flip(-1) * constant([1.0, -1.0], pred)
            resize = resize + slope[..., None] * turn
        return torch.cat((move, resize), -1), diagonal


def _signs(like: Tensor, value: float, dims: int) -> Tensor:
    """-value and value along the first of some dimensions."""
    return constant([-value, value], like).view(2, *[1] * (dims - 1))


def _low(boxes: Tensor) -> Tensor:
    return boxes[..., :2] - boxes[..., 2:] / 2


def _high(boxes: Tensor) -> Tensor:
    return boxes[..., :2] + boxes[..., 2:] / 2
