"""Training input of SSD by the rules of the original Caffe code (branch ``ssd``).

1. Colours of the 8-bit image, saturated at every step. Brightness with probability 1/2:
   + U(-32, 32). Contrast before or after saturation and hue, equally likely, with probability 1/2:
   x U(0.5, 1.5). In OpenCV's 8-bit HSV saturation with probability 1/2: x U(0.5, 1.5), hue with
   probability 1/2: + U(-18, 18) of OpenCV's units of two degrees. The channels are not exchanged.
2. The canvas as in ssd.pytorch, at whole pixels.
3. Candidates: the whole canvas; for each minimum overlap of 0.1, 0.3, 0.5, 0.7 and 0.9 the first
   of 50 crops that has this IoU with one box; and a free crop. One candidate, equally likely.
   A crop has scale s ~ U(0.3, 1) and aspect a ~ U(max(1/2, s^2), min(2, 1/s^2)); its sides are
   s sqrt(a) and s / sqrt(a) of the canvas, its position is uniform.
4. Boxes with their centre inside stay, clipped to the crop.
5. Resized by one of five interpolations, equally likely.
"""
# ruff: noqa: NPY002 (MMEngine seeds the global generator of every worker)

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mmdet_losses.data.draws import coin

OVERLAPS = (0.1, 0.3, 0.5, 0.7, 0.9, 0.0)
TRIES = 50
INTERPOLATIONS = (
    cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_NEAREST, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4,
)  # fmt: skip


def distort_bytes(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Caffe's colours of a B, G, R image."""
    early = coin()
    if coin():
        image = _table(image, 1, np.random.uniform(-32, 32))
    if early:
        image = _contrast(image)
    saturation, hue = coin(), coin()
    if image.size and (saturation or hue):
        h, s, v = cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2HSV))
        if saturation:
            s = _table(s, np.random.uniform(0.5, 1.5), 0)
        if hue:
            h = _table(h, 1, np.random.uniform(-18, 18))
        image = cv2.cvtColor(cv2.merge((h, s, v)), cv2.COLOR_HSV2BGR)
    return image if early else _contrast(image)


def draw_crop(size: tuple[int, int], boxes: NDArray[np.floating]) -> tuple[int, int, int, int]:
    """Caffe's random crop (x1, y1, x2, y2) of a (w, h) canvas with some boxes."""
    relative = boxes / np.tile(size, 2)
    drawn = [_candidate(relative, overlap) for overlap in OVERLAPS]
    candidates = [(0.0, 0.0, 1.0, 1.0), *(each for each in drawn if each is not None)]
    x1, y1, x2, y2 = candidates[np.random.randint(len(candidates))]
    left, top = int(x1 * size[0]), int(y1 * size[1])
    width, height = int((x2 - x1) * size[0]), int((y2 - y1) * size[1])
    return left, top, left + max(width, 1), top + max(height, 1)


def resize(image: NDArray, size: tuple[int, int]) -> NDArray:
    """Resize to (w, h) by a random interpolation."""
    return cv2.resize(
        image, size, interpolation=INTERPOLATIONS[np.random.randint(len(INTERPOLATIONS))]
    )


def _candidate(boxes: NDArray, overlap: float) -> tuple[float, float, float, float] | None:
    """The first crop in parts of the canvas that one of the boxes fits, None after 50 tries."""
    scale = np.random.uniform(0.3, 1, TRIES)
    aspect = np.random.uniform(np.maximum(0.5, scale**2), np.minimum(2, scale**-2))
    w, h = scale * np.sqrt(aspect), scale / np.sqrt(aspect)
    x, y = np.random.uniform(0, 1 - w), np.random.uniform(0, 1 - h)
    crops = np.stack((x, y, x + w, y + h), 1)
    fits = np.flatnonzero(_best_iou(boxes, crops) >= overlap)
    return tuple(crops[fits[0]]) if len(fits) else None


def _best_iou(boxes: NDArray, crops: NDArray) -> NDArray:
    """Per crop the IoU with the nearest box."""
    crops = crops[:, None]
    shared = np.minimum(boxes[:, 2:], crops[..., 2:]) - np.maximum(boxes[:, :2], crops[..., :2])
    shared = shared.clip(min=0).prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1) + (crops[..., 2:] - crops[..., :2]).prod(-1)
    return (shared / (areas - shared)).max(-1)


def _contrast(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return _table(image, np.random.uniform(0.5, 1.5), 0) if coin() else image


def _table(channel: NDArray[np.uint8], factor: float, shift: float) -> NDArray[np.uint8]:
    """Factor and shift of bytes by a table, rounded and saturated as OpenCV does."""
    table = np.rint(np.arange(256) * factor + shift).clip(0, 255).astype(np.uint8)
    return cv2.LUT(channel, table) if channel.size else channel
