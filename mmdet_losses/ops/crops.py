"""Crops around a point, and the boxes inside them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mmdet_losses.ops.boxes import box_size
from mmdet_losses.ops.constant import constant


class CropWindow(NamedTuple):
    """A crop of fixed size, black outside the image."""

    offset: tuple[int, int]
    """(x, y) image pixel of the crop's first pixel, which is subtracted from boxes."""
    filled: tuple[int, int, int, int]
    """(x1, y1, x2, y2) part of the crop that lies inside the image."""


def crop_window(
    center: tuple[int, int], crop_size: tuple[int, int], image_size: tuple[int, int]
) -> CropWindow:
    """Window of (h, w) ``crop_size`` pixels around a pixel (x, y).

    Convention:
        As in CornerNet, both half sizes are ``size // 2``, so the last row and column of an odd
        crop stay black.
    """
    spans = []
    for middle, size, limit in zip(center, crop_size[::-1], image_size[::-1], strict=True):
        half = size // 2
        spans.append((half - min(middle, half), half + min(half, limit - middle)))
    (x1, x2), (y1, y2) = spans
    offset = center[0] - crop_size[1] // 2, center[1] - crop_size[0] // 2
    return CropWindow(offset, (x1, y1, x2, y2))


def crop_boxes(boxes: Tensor, window: CropWindow) -> tuple[Tensor, Tensor]:
    """Boxes (n, 4) in a crop, and the share of each area that remains.

    Convention:
        Boxes are clipped to the last filled pixel, ``x2 - 1`` and ``y2 - 1``. Boxes outside the
        crop become empty, with share 0; the caller drops them.
    """
    x1, y1, x2, y2 = window.filled
    moved = boxes - constant(window.offset * 2, boxes)
    low, high = constant([x1, y1] * 2, boxes), constant([x2 - 1, y2 - 1] * 2, boxes)
    clipped = torch.minimum(torch.maximum(moved, low), high)
    share = box_size(clipped).prod(-1) / box_size(moved).prod(-1)
    return clipped, torch.where(box_size(moved).amin(-1) > 0, share, 0)


def mirror_boxes(boxes: Tensor, width: float) -> Tensor:
    """Boxes (..., 4) or points (..., 2), mirrored left to right: x becomes ``width - x``."""
    x = width - boxes[..., 0::2].flip(-1)  # the right side of a box becomes its left side
    return torch.stack((x, boxes[..., 1::2]), -1).flatten(-2)
