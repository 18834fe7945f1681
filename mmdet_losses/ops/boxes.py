"""Arithmetic of xyxy boxes with exclusive ends."""

from __future__ import annotations

import torch
from torch import Tensor


def box_size(boxes: Tensor) -> Tensor:
    """(..., 4) xyxy to (..., 2) width and height."""
    return boxes[..., 2:] - boxes[..., :2]


def box_center(boxes: Tensor) -> Tensor:
    """(..., 4) xyxy to (..., 2) centre x, y."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def boxes_around(center: Tensor, size: Tensor) -> Tensor:
    """Centres (..., 2) and sizes (..., 2) to (..., 4) xyxy."""
    return torch.cat((center - size / 2, center + size / 2), dim=-1)


def is_proper(boxes: Tensor) -> Tensor:
    """(...) bool: whether boxes (..., 4) are finite and have a positive, finite width and height.

    The width of a finite box overflows float32 from about 3e38.
    """
    size = box_size(boxes)  # infinite or NaN if an edge is
    return ((size > 0) & size.isfinite()).all(-1)


def scale_boxes(boxes: Tensor, scale_x: float, scale_y: float) -> Tensor:
    """Boxes (..., 4), or any x, y pairs (..., 2n), times ``scale_x`` and ``scale_y``."""
    return torch.stack((boxes[..., 0::2] * scale_x, boxes[..., 1::2] * scale_y), -1).flatten(-2)


def clip_boxes(boxes: Tensor, max_x: float, max_y: float) -> Tensor:
    """Boxes (..., 4), or any x, y pairs (..., 2n), clamped to [0, max_x] and [0, max_y]."""
    x, y = boxes[..., 0::2].clamp(0, max_x), boxes[..., 1::2].clamp(0, max_y)
    return torch.stack((x, y), -1).flatten(-2)
