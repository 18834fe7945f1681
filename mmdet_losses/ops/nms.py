"""Greedy NMS with the overlap measures of darknet, which common operators lack."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mmdet_losses.ops.choices import check_choice
from mmdet_losses.ops.iou import pairwise_iou

NmsKind = Literal['iou', 'diou']
BLOCK = 256
"""Number of boxes that are compared with each other at once."""


def greedy_nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    iou_threshold: float,
    kind: NmsKind = 'iou',
    beta: float = 0.6,
) -> Tensor:
    r"""Indices of the boxes that greedy NMS keeps, per class.

    Shape:
        boxes: (n, 4) xyxy. scores, labels: (n,). Returns (k,), by descending score.

    Convention:
        A box is dropped if its overlap with a kept box exceeds ``iou_threshold`` (strictly).
        'diou' uses :math:`IoU - (\rho^2 / c^2)^\beta` instead of the IoU: darknet's
        ``nms_kind=greedynms`` with a beta of 0.6, its ``diounms`` with ``beta_nms``. Boxes are
        sorted by class and processed in blocks of :data:`BLOCK`, which are compared with the rest
        of their last class; memory grows with n, not with its square.

    Raises:
        ValueError: an unknown kind.
    """
    check_choice('kind', kind, ('iou', 'diou'))

    def drops(one: Tensor, other: Tensor) -> Tensor:
        """(i, j) bool: whether a kept box i drops box j of its class."""
        overlap = pairwise_iou(boxes[one], boxes[other])
        dropped = (overlap > iou_threshold) & (labels[one][:, None] == labels[other])
        if kind == 'diou':  # never above the IoU
            i, j = dropped.nonzero(as_tuple=True)
            distance = _relative_distance(boxes[one[i]], boxes[other[j]])
            dropped[i, j] = overlap[i, j] - distance**beta > iou_threshold
        return dropped

    rank = scores.argsort(descending=True, stable=True)
    rest = rank[labels[rank].argsort(stable=True)]  # by class, then by descending score
    kept = torch.zeros_like(labels, dtype=torch.bool)
    while len(rest):
        block, rest = rest[:BLOCK], rest[BLOCK:]
        block = block[_survivors(drops(block, block).triu(1))]
        kept[block] = True
        # Only the last class of a block goes on after it.
        own = block[labels[block] == labels[rest[0]]] if len(rest) else rest
        if len(own):
            tail = int((labels[rest] == labels[own[0]]).sum())
            same, other = rest[:tail], rest[tail:]
            rest = torch.cat((same[~drops(own, same).any(0)], other))
    return rank[kept[rank]]


def average_overlapping(
    boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float, views: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes of several views of an image, averaged where greedy NMS would drop all but one.

    Shape:
        boxes: (n, 4) xyxy. scores, labels: (n,). Returns boxes (k, 4), scores (k,), labels (k,), by
        descending score of the best box of each average.

    Convention:
        A dropped box belongs to the best kept box of its class that it overlaps by more than
        ``iou_threshold``. Each group becomes its mean box, weighted by the scores. The score is the
        sum of the scores divided by the number of ``views``, at most 1.

    Source:
        Box voting (Gidaris and Komodakis, ICCV 2015, section 5.2) with the confidence of weighted
        boxes fusion (Solovyev et al., 2021).
    """
    kept = greedy_nms(boxes, scores, labels, iou_threshold)
    if not len(kept):
        return boxes[kept], scores[kept], labels[kept]
    inside = pairwise_iou(boxes, boxes[kept]) > iou_threshold
    inside &= labels[:, None] == labels[kept]
    inside[kept, torch.arange(len(kept), device=kept.device)] = True  # boxes without an area
    group = inside.to(torch.uint8).argmax(1)  # the first one, which has the highest score
    total = scores.new_zeros(len(kept)).index_add(0, group, scores)
    weighted = boxes.new_zeros(len(kept), 4).index_add(0, group, boxes * scores[:, None])
    mean = torch.where(total[:, None] > 0, weighted / total[:, None], boxes[kept])
    return mean, (total / views).clamp_max(1), labels[kept]


def voted_boxes(
    boxes: Tensor, scores: Tensor, labels: Tensor, kept: Tensor, iou_threshold: float
) -> Tensor:
    """The boxes that NMS keeps, each averaged with the boxes of its class that overlap it.

    Shape:
        boxes: (n, 4) xyxy. scores, labels: (n,). kept: (k,) indices. Returns (k, 4).

    Convention:
        The average is over all n boxes of the class with an IoU above ``iou_threshold``, weighted
        by their scores. A box can be part of several averages. The scores do not change.

    Source:
        Box voting (Gidaris and Komodakis, ICCV 2015, section 5.2).
    """
    votes = pairwise_iou(boxes[kept], boxes) > iou_threshold
    weight = torch.where(votes & (labels[kept][:, None] == labels), scores, 0)
    total = weight.sum(1, keepdim=True)  # 0 for a box without an area or score
    return torch.where(total > 0, weight @ boxes / total, boxes[kept])


def padded_nms(
    boxes: Tensor,
    labels: Tensor,
    mask: Tensor,
    iou_threshold: float,
    kind: NmsKind = 'iou',
    beta: float = 0.6,
) -> Tensor:
    """:func:`greedy_nms` as a mask, for an exported network: no shape depends on a value.

    Shape:
        boxes: (B, K, 4) xyxy, by descending score. labels: (B, K). mask: (B, K) bool, false for
        padding. Returns (B, K) bool; memory grows with the square of K.
    """
    overlap = pairwise_iou(boxes, boxes)
    if kind == 'diou':
        overlap = overlap - _relative_distance(boxes[:, :, None], boxes[:, None]) ** beta
    rank = torch.arange(boxes.shape[1], device=boxes.device)
    drops = (overlap > iou_threshold) & (labels[:, :, None] == labels[:, None])
    drops = drops & (rank[:, None] < rank) & mask[:, :, None]
    if torch.onnx.is_in_onnx_export():
        return mask & torch.jit.script(_survivors)(drops)  # becomes a loop of the graph
    if torch.compiler.is_compiling():
        return mask & _traced_survivors(drops)
    return mask & _survivors(drops)


def _survivors(drops: Tensor) -> Tensor:
    """(..., n) bool: boxes that no kept better box drops, where ``drops[..., i, j]`` means i drops
    j, and j is after i.

    After i rounds the first i boxes are final; usually a few rounds are enough for all.
    """
    kept = ~drops.any(-2)  # any start is right; an exporter would fix the batch of a constant one
    changed = True
    while changed:
        now = ~(drops & kept[..., None]).any(-2)
        changed = bool((now != kept).any())
        kept = now
    return kept


def _traced_survivors(drops: Tensor) -> Tensor:
    """:func:`_survivors` as a loop operator, which ``torch.export`` captures."""

    def changed(kept: Tensor, before: Tensor, drops: Tensor) -> Tensor:
        return (kept != before).any()

    def step(kept: Tensor, before: Tensor, drops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return ~(drops & kept[..., None]).any(-2), kept.clone(), drops.clone()

    first = ~drops.any(-2)
    start = (first, torch.ones_like(first), drops)
    return torch.while_loop(changed, step, start)[0]


def _relative_distance(boxes: Tensor, others: Tensor) -> Tensor:
    """Squared distance of the centres over the squared diagonal of the hull: (..., 4) to (...)."""
    center, other = ((each[..., :2] + each[..., 2:]) / 2 for each in (boxes, others))
    distance = (center - other).square().sum(-1)
    low = torch.minimum(boxes[..., :2], others[..., :2])
    high = torch.maximum(boxes[..., 2:], others[..., 2:])
    diagonal = (high - low).square().sum(-1)
    return distance / torch.where(diagonal > 0, diagonal, 1)


def adaptive_nms(
    boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float, eta: float = 1.0
) -> Tensor:
    """Indices of the boxes that Caffe's NMS keeps, per class; its option ``eta``.

    Shape:
        as in :func:`greedy_nms`.

    Convention:
        A box is dropped if its IoU with a kept box of its class exceeds the threshold. With
        ``eta`` below 1, every kept box multiplies the threshold of its class by ``eta`` while it
        is above 0.5. One step per box.

    Raises:
        ValueError: ``eta`` outside (0, 1].
    """
    if not 0 < eta <= 1:
        raise ValueError(f'eta={eta} is outside (0, 1]; 1 does not change the threshold.')
    order = scores.argsort(descending=True, stable=True)
    overlap = pairwise_iou(boxes[order], boxes[order])
    overlap = torch.where(labels[order][:, None] == labels[order], overlap, 0).cpu()
    thresholds: dict[int, float] = {}
    kept: list[int] = []
    for index, label in enumerate(labels[order].tolist()):
        threshold = thresholds.setdefault(label, iou_threshold)
        if (overlap[index, kept] > threshold).any():
            continue
        kept.append(index)
        if threshold > 0.5:
            thresholds[label] = threshold * eta
    return order[torch.tensor(kept, dtype=torch.long, device=order.device)]
