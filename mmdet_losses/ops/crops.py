"""What a crop around a point shows of an image and of its boxes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mmdet_losses.ops.boxes import box_size
from mmdet_losses.ops.constant import constant


class CropWindow(NamedTuple):
    """A crop of fixed size, black where it leaves the image."""

    offset: tuple[int, int]
    """(x, y) image pixel of the crop's first pixel; boxes move by minus that."""
    filled: tuple[int, int, int, int]
    """(x1, y1, x2, y2) part of the crop that shows the image."""


def crop_window(
    center: tuple[int, int], crop_size: tuple[int, int], image_size: tuple[int, int]
) -> CropWindow:
    """The window of (h, w) ``crop_size`` pixels around a pixel (x, y).

    Convention:
        CornerNet's: half sizes are ``size // 2`` on both sides, so an odd crop leaves its last
        row and column black.
    """
    spans = []
    for middle, size, limit in zip(center, crop_size[::-1], image_size[::-1], strict=True):
        half = size // 2
        spans.append((half - min(middle, half), half + min(half, limit - middle)))
    (x1, x2), (y1, y2) = spans
    offset = center[0] - crop_size[1] // 2, center[1] - crop_size[0] // 2
    return CropWindow(offset, (x1, y1, x2, y2))


def crop_boxes(boxes: Tensor, window: CropWindow) -> tuple[Tensor, Tensor]:
    """Boxes (n, 4) as the crop shows them, and the share of each area that it left.

    Convention:
        Clipped to the last filled pixel, ``x2 - 1`` and ``y2 - 1``. Boxes that the crop does not
        show become empty, with share 0; the caller drops them.
    """
    x1, y1, x2, y2 = window.filled
    moved = boxes - constant(window.offset * 2, boxes)
    low, high = constant([x1, y1] * 2, boxes), constant([x2 - 1, y2 - 1] * 2, boxes)
    clipped = torch.minimum(torch.maximum(moved, low), high)
    share = box_size(clipped).prod(-1) / box_size(moved).prod(-1)
    return clipped, torch.where(box_size(moved).amin(-1) > 0, share, 0)


def mirror_boxes(boxes: Tensor, width: float) -> Tensor:
    """Swap left and right: x becomes ``width - x``; (..., 4), or (..., 2) single points."""
    x = width - boxes[..., 0::2].flip(-1)  # a box's right side becomes its left
    return torch.stack((x, boxes[..., 1::2]), -1).flatten(-2)
