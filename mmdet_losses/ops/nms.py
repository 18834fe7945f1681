"""Greedy suppression with darknet's measures of overlap, which no common operator has."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mmdet_losses.ops.choices import check_choice
from mmdet_losses.ops.iou import pairwise_iou

NmsKind = Literal['iou', 'diou']
BLOCK = 1024
"""Boxes that are settled at once."""


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
        is that with 0.6, ``diounms`` with its ``beta_nms``. The best :data:`BLOCK` boxes are
        settled together, then drop from the rest, so that memory grows with n, not its square.

    Raises:
        ValueError: an unknown kind.
    """
    check_choice('kind', kind, ('iou', 'diou'))

    def drops(one: Tensor, other: Tensor) -> Tensor:
        """(i, j) bool: whether a kept box i drops box j."""
        overlap = pairwise_iou(boxes[one], boxes[other])
        if kind == 'diou':
            overlap = overlap - _relative_distance(boxes[one], boxes[other]) ** beta
        return (overlap > iou_threshold) & (labels[one][:, None] == labels[other])

    rest = scores.argsort(descending=True, stable=True)
    kept = [rest[:0]]
    while len(rest):
        block, rest = rest[:BLOCK], rest[BLOCK:]
        block = block[_survivors(drops(block, block))]
        rest = rest[~drops(block, rest).any(0)]
        kept.append(block)
    return torch.cat(kept)


def _survivors(drops: Tensor) -> Tensor:
    """(n,) bool: which boxes no surviving better one drops; (i, j) says that i would drop j.

    The first i boxes are settled after i rounds at most; most often a few rounds settle all.
    """
    drops = drops.triu(1)
    alive = torch.ones(len(drops), dtype=torch.bool, device=drops.device)
    while True:
        settled = ~(drops & alive[:, None]).any(0)
        if torch.equal(settled, alive):
            return alive
        alive = settled


def _relative_distance(boxes: Tensor, others: Tensor) -> Tensor:
    """Squared distance of the centres over the squared diagonal of the hull: (n, m)."""
    center, other = ((each[:, :2] + each[:, 2:]) / 2 for each in (boxes, others))
    distance = (center[:, None] - other).square().sum(-1)
    low = torch.minimum(boxes[:, None, :2], others[:, :2])
    high = torch.maximum(boxes[:, None, 2:], others[:, 2:])
    diagonal = (high - low).square().sum(-1)
    return distance / torch.where(diagonal > 0, diagonal, 1)
