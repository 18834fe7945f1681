"""Anchors by k-means on box sizes, and how well anchors fit boxes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mmdet_losses.ops.iou import shape_iou

MAX_RATIO = 4.0
"""Default anchor threshold of Scaled-YOLOv4."""


def kmeans_anchors(sizes: Tensor, count: int, seed: int = 0, rounds: int = 300) -> Tensor:
    """Anchors by k-means with the distance 1 - IoU of the shapes.

    The initial anchors are boxes drawn far from each other (k-means++). Each round assigns the
    boxes to their best anchor and moves every anchor to the mean of its boxes, until no assignment
    changes. The same seed gives the same anchors.

    Shape:
        sizes: (N, 2) box widths and heights.
        Returns (count, 2), by ascending area.

    Raises:
        ValueError: ``count`` is below 1, a size is not positive and finite, or there are fewer
            different sizes than anchors.

    Example:
        >>> sizes = torch.tensor([[10.0, 20.0], [12.0, 20.0], [80.0, 40.0]])
        >>> kmeans_anchors(sizes, 2)
        tensor([[11., 20.],
                [80., 40.]], dtype=torch.float64)

    Reference:
        Redmon and Farhadi, *YOLO9000*, 2016, section 2.
    """
    if count < 1:
        raise ValueError(f'the number of anchors is {count}; give 1 or more.')
    if not bool((sizes.isfinite() & (sizes > 0)).all()):
        raise ValueError('a box has no positive width and height; remove it before k-means.')
    different = len(sizes.unique(dim=0))
    if different < count:
        raise ValueError(
            f'{len(sizes)} boxes of {different} different sizes are too few for {count} anchors; '
            'use fewer anchors or more data.'
        )
    generator = torch.Generator().manual_seed(seed)
    sizes = sizes.double()
    anchors = _initial_anchors(sizes, count, generator)
    best = sizes.new_full((len(sizes),), -1, dtype=torch.int64)
    for _ in range(rounds):
        now = shape_iou(sizes, anchors).argmax(1)
        if bool((now == best).all()):
            break
        best = now
        members = sizes.new_zeros(count).index_add(0, best, sizes.new_ones(len(sizes)))
        sums = torch.zeros_like(anchors).index_add(0, best, sizes)
        anchors = torch.where(members[:, None] > 0, sums / members[:, None].clamp(min=1), anchors)
    return anchors[anchors.prod(1).argsort(stable=True)]


def _initial_anchors(sizes: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Boxes, each drawn with the squared distance to its nearest predecessor as weight."""
    index = torch.randint(len(sizes), (1,), generator=generator)
    while len(index) < count:
        distance = (1 - shape_iou(sizes, sizes[index]).amax(1)).clamp(min=0).square()
        distance[index] = 0
        index = torch.cat((index, torch.multinomial(distance, 1, generator=generator)))
    return sizes[index]


class AnchorFit(NamedTuple):
    """How well anchors fit boxes."""

    mean_iou: float
    """Mean over the boxes of the IoU with their best anchor."""
    recall: float
    """Fraction of the boxes whose best IoU is at least 0.5."""
    in_ratio: float
    """Fraction of the boxes that have an anchor within a factor of 4 in width and height."""


def anchor_fit(sizes: Tensor, anchors: Tensor) -> AnchorFit:
    """Rate anchors (A, 2) on box sizes (N, 2)."""
    sizes, anchors = sizes.double(), anchors.double()
    best = shape_iou(sizes, anchors).amax(1)
    ratio = sizes[:, None] / anchors
    near = torch.maximum(ratio, 1 / ratio).amax(-1).amin(1) < MAX_RATIO
    return AnchorFit(*(float(each.double().mean()) for each in (best, best >= 0.5, near)))
