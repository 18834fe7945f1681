"""Arithmetic of xyxy boxes with exclusive ends."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmdet_losses.ops.constant import constant


def box_size(boxes: Tensor) -> Tensor:
    """(..., 4) xyxy to (..., 2) width and height."""
    return boxes[..., 2:] - boxes[..., :2]


def box_center(boxes: Tensor) -> Tensor:
    """(..., 4) xyxy to (..., 2) centre x, y."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def boxes_around(center: Tensor, size: Tensor) -> Tensor:
    """Centres (..., 2) and sizes (..., 2) to (..., 4) xyxy."""
    half = size / 2
    return torch.cat((center - half, center + half), dim=-1)


def is_proper(boxes: Tensor) -> Tensor:
    """(...) bool: whether boxes (..., 4) are finite and have a positive, finite width and height.

    The width of a finite box overflows float32 from about 3e38.
    """
    size = box_size(boxes)  # infinite or NaN if an edge is
    return ((size > 0) & (size < math.inf)).all(-1)


def scale_boxes(boxes: Tensor, scale_x: float, scale_y: float) -> Tensor:
    """Boxes (..., 4), or any x, y pairs (..., 2n), times ``scale_x`` and ``scale_y``."""
    return boxes * _pairs(boxes, scale_x, scale_y)


def clip_boxes(boxes: Tensor, max_x: float, max_y: float) -> Tensor:
    """Boxes (..., 4), or any x, y pairs (..., 2n), clamped to [0, max_x] and [0, max_y]."""
    return boxes.clamp(constant(0, boxes), _pairs(boxes, max_x, max_y))


def _pairs(boxes: Tensor, x: float, y: float) -> Tensor:
    """(2n,) x and y in turns, of the type of the boxes (..., 2n)."""
    return constant([float(x), float(y)] * (boxes.shape[-1] // 2), boxes)
