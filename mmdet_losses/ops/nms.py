"""Greedy suppression with darknet's measures of overlap, which no common operator has."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mmdet_losses.ops.iou import pairwise_iou

NmsKind = Literal['iou', 'diou']


def greedy_nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    iou_threshold: float,
    kind: NmsKind = 'iou',
    beta: float = 0.6,
) -> Tensor:
    r"""Keep the best box of each class, drop those that overlap it too much, and so on.

    Shape:
        boxes: (n, 4) xyxy. scores, labels: (n,). Returns the kept indices (k,), best first.

    Convention:
        A box is dropped where its overlap exceeds ``iou_threshold`` (strict). 'diou' takes
        :math:`IoU - (\rho^2 / c^2)^\beta` instead of the IoU; darknet's ``nms_kind=greedynms``
        is that with 0.6, ``diounms`` with its ``beta_nms``. Suitable for hundreds of boxes.

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in ('iou', 'diou'):
        raise ValueError(f"NMS kind {kind!r} is unknown; choose 'iou' or 'diou'.")
    order = scores.argsort(descending=True, stable=True)
    boxes, labels = boxes[order], labels[order]
    overlap = pairwise_iou(boxes, boxes)
    if kind == 'diou':
        center = (boxes[:, :2] + boxes[:, 2:]) / 2
        distance = (center[:, None] - center).square().sum(-1)
        low = torch.minimum(boxes[:, None, :2], boxes[:, :2])
        high = torch.maximum(boxes[:, None, 2:], boxes[:, 2:])
        diagonal = (high - low).square().sum(-1)
        overlap = overlap - (distance / torch.where(diagonal > 0, diagonal, 1)) ** beta
    drops = (overlap > iou_threshold) & (labels[:, None] == labels)
    kept = torch.ones(len(order), dtype=torch.bool, device=order.device)
    for i in range(len(order)):
        if kept[i]:
            kept[i + 1 :] &= ~drops[i, i + 1 :]
    return order[kept]
