"""Geometry of a network input: the image resized, mirrored, placed on a canvas."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from mmdet_losses.core import Size
from mmdet_losses.ops import clip_boxes, constant, crop_window, mirror_boxes, scale_boxes


class InputView(NamedTuple):
    """Maps cells of an output map to pixels of an image; by default the input is the image."""

    input_size: Size
    """(h, w) of the network input."""
    resized_size: Size | None = None
    """(h, w) of the resized image inside the input; None: that of the input."""
    border: tuple[float, float] = (0, 0)
    """Pixels above and left of the image."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Resized width / original width, and the same for the height."""
    flipped: bool = False
    """The input is mirrored left to right."""

    def to_resized(self, points: Tensor, feat_size: Size) -> Tensor:
        """(..., 2n) x, y pairs in cells of a (H, W) map to pixels of the resized image."""
        height, width = feat_size
        if self.flipped:
            points = mirror_boxes(points, width)
        points = scale_boxes(points, self.input_size[1] / width, self.input_size[0] / height)
        shift = [float(self.border[1]), float(self.border[0])] * (points.shape[-1] // 2)
        return points - constant(shift, points)

    def to_image(self, boxes: Tensor, feat_size: Size) -> Tensor:
        """Boxes (..., 4) in cells to pixels of the original image, clipped to it."""
        height, width = self.resized_size or self.input_size
        return self.from_resized(clip_boxes(self.to_resized(boxes, feat_size), width, height))

    def from_resized(self, points: Tensor) -> Tensor:
        """(..., 2n) x, y pairs in pixels of the resized image to pixels of the original."""
        return points / constant([*self.scale] * (points.shape[-1] // 2), points)

    def contains(self, boxes: Tensor, feat_size: Size, margin: float) -> Tensor:
        """(...) bool: boxes (..., 4) in cells lie in the resized image widened by ``margin``."""
        height, width = self.resized_size or self.input_size
        boxes = self.to_resized(boxes, feat_size)
        last = constant([width + margin, height + margin], boxes)
        return (boxes[..., :2] > -margin).all(-1) & (boxes[..., 2:] < last).all(-1)


def canvas_view(image_size: Size, scale: float = 1.0, flipped: bool = False) -> InputView:
    """CornerNet's test input: the resized image centred on a canvas of (h | 127, w | 127) pixels.

    Where the image fills an odd canvas, its last row or column is cut, as in the official code.
    """
    resized = int(image_size[0] * scale), int(image_size[1] * scale)
    canvas = resized[0] | 127, resized[1] | 127
    window = crop_window((resized[1] // 2, resized[0] // 2), canvas, resized)
    left, top = window.filled[:2]
    return InputView(canvas, resized, (top, left), (scale, scale), flipped)
