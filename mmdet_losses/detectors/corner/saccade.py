"""Crops of CornerNet-Saccade: their locations, their pixels, and their boxes in the image.

Law et al., *CornerNet-Lite: Efficient Keypoint Based Object Detection*, section 3.

A location is a row of float64 (y, x, zoom, score): a point in pixels of the original image, the
factor by which the crop around it is enlarged, and the score of the object there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_losses.core import Size
from mmdet_losses.ops import suppress_non_peaks


class Crops(NamedTuple):
    """Crops of one image, enlarged to the size of the network input."""

    zoom: Tensor
    """(N,) float64, input pixels per image pixel."""
    offset: Tensor
    """(N, 2) float64 (y, x) image pixel at the input's origin."""


def attention_locations(
    attentions: Sequence[Tensor],
    crops: Crops,
    image_size: Size,
    *,
    strides: Sequence[int] = (16, 8, 4),
    zooms: Sequence[float] = (1, 2, 4),
    kernels: Sequence[int] = (3, 3, 3),
    threshold: float = 0.3,
    enlarge_only: bool = False,
) -> Tensor:
    """Peaks of the attention maps as locations (n, 4), crop by crop, map by map.

    Convention:
        A peak is the maximum of its window and above ``threshold``. Its location is the
        top-left pixel of its cell, not the middle; peaks outside the image are dropped. A map is
        skipped if the crop is already enlarged more than 2 times, if the next crop would be
        enlarged more than 4 times, or, with ``enlarge_only`` (not in the first pass), if its own
        zoom is 1 or less.

    Args:
        attentions: (N, 1, H_l, W_l) scores, not logits, coarsest map first.
        strides: input pixels per cell of each map.
        zooms: zoom of the next crop relative to this one, for each map.
        kernels: side of the window of a peak in cells, for each map.
    """
    found = [crops.zoom.new_zeros(0, 4)]
    peaks = [suppress_non_peaks(each, k) for each, k in zip(attentions, kernels, strict=True)]
    for crop, (zoom, offset) in enumerate(zip(crops.zoom.tolist(), crops.offset, strict=True)):
        for peak, stride, factor in zip(peaks, strides, zooms, strict=True):
            if zoom > 2 or factor * zoom > 4 or (enlarge_only and factor <= 1):
                continue
            cells = (peak[crop, 0] > threshold).nonzero()
            yx = cells * stride / crops.zoom[crop] + offset
            inside = (yx >= 0).all(1) & (yx < yx.new_tensor(image_size)).all(1)
            scores = peak[crop, 0][cells[:, 0], cells[:, 1]].to(yx)
            rows = torch.cat((yx, torch.full_like(yx[:, :1], factor * zoom), scores[:, None]), 1)
            found.append(rows[inside])
    return torch.cat(found)


def detection_locations(boxes: Tensor, scores: Tensor, threshold: float = 0.5) -> Tensor:
    """Locations (n, 4) of the detections above ``threshold``, with score 1.

    Convention:
        A longest side above 96 pixels is resized to 192, above 32 to 64, any other to 24.
    """
    boxes = boxes[scores > threshold]
    side = (boxes[:, 2:] - boxes[:, :2]).amax(1)
    wanted = torch.where(side > 96, 192.0, torch.where(side > 32, 64.0, 24.0))
    center = (boxes[:, :2] + boxes[:, 2:]).flip(1) / 2
    rows = torch.cat((center, (wanted / side)[:, None], torch.ones_like(side)[:, None]), 1)
    return rows.double()


def nms_locations(locations: Tensor, distance: float = 16, most: int | None = None) -> Tensor:
    """NMS: drop locations near a better one with a similar zoom; (n, 4) by descending score.

    Convention:
        Of equal scores the last comes first, as in the official test. Near means within
        ``distance`` / zoom pixels along x OR along y, as in the official code. A similar zoom
        means a ratio in [0.8, 1.2], that of the better location over the other's.
    """
    rows = locations[locations[:, 3].argsort(stable=True).flip(0)]
    kept = []
    while len(rows):
        best = rows[0]
        kept.append(best)
        apart = (rows[:, :2] - best[:2]).abs().amin(1)
        ratio = best[2] / rows[:, 2]
        near = (apart <= distance / best[2]) & (ratio >= 0.8) & (ratio <= 1.2)
        near[0] = True
        rows = rows[~near]
    return torch.stack(kept[:most]) if kept else locations


def full_image_locations(image_size: Size, sides: Sequence[int] = (192, 255)) -> Tensor:
    """Locations (n, 3) of the first pass: the image with its longest side resized to ``sides``.

    Convention:
        Zooms are rounded to float32, as in the official code: the rounding decides which of two
        locations exactly at the NMS distance is kept.
    """
    height, width = image_size
    zoom = (torch.tensor(sides, dtype=torch.float64) / max(height, width)).float().double()
    center = torch.tensor([height // 2, width // 2], dtype=torch.float64)
    return torch.cat((center.expand(len(zoom), 2), zoom[:, None]), 1)


def crops_at(locations: Tensor, input_size: Size) -> Crops:
    """The crops at locations (n, 3 or 4), each of ``input_size`` / zoom image pixels."""
    sides = (locations.new_tensor(input_size).double() / locations[:, 2:3].double()).trunc()
    offset = locations[:, :2].double().trunc() - (sides / 2).floor()
    return Crops(locations[:, 2].double(), offset)


def crop_image(image: Tensor, locations: Tensor, input_size: Size) -> Tensor:
    """Network inputs (N, C, h, w) of the crops at ``locations``, zero outside the image.

    Args:
        image: (C, H, W) float.
        locations: (N, 3 or 4).

    Convention:
        The crop extends half its side from the integer pixel in each direction. The part inside
        the image is enlarged by input / side (extents truncated, bilinear, corners not aligned).
    """
    height, width = image.shape[-2:]
    crops = image.new_zeros(len(locations), image.shape[0], *input_size)
    for crop, (y, x, zoom, *_) in zip(crops, locations.tolist(), strict=True):
        spans = [
            _span(int(middle), int(size / zoom), size, limit)
            for middle, size, limit in ((y, input_size[0], height), (x, input_size[1], width))
        ]
        (y1, y2, top, bottom), (x1, x2, left, right) = spans
        if min(y2 - y1, x2 - x1, bottom - top, right - left) <= 0:
            continue
        piece = image[None, :, y1:y2, x1:x2]
        piece = F.interpolate(
            piece, size=(bottom - top, right - left), mode='bilinear', align_corners=False
        )
        crop[:, top:bottom, left:right] = piece[0]
    return crops


def _span(middle: int, side: int, size: int, limit: int) -> tuple[int, int, int, int]:
    """Image pixels [start, stop) of a crop along one axis, and their range in the input."""
    start, stop = max(0, middle - side // 2), min(middle + side // 2, limit)
    ratio = size / max(side, 1)  # the zoom of an empty detection is infinite, so its side is 0
    first = size // 2 - int(ratio * (middle - start))
    return start, stop, first, size // 2 + int(ratio * (stop - middle))


def boxes_in_image(boxes: Tensor, crops: Crops, feat_size: Size, input_size: Size) -> Tensor:
    """Boxes (N, n, 4) in cells of each crop's map to pixels of the image, not clipped to it."""
    ratio = boxes.new_tensor([feat_size[1] / input_size[1], feat_size[0] / input_size[0]] * 2)
    offset = crops.offset.flip(1).repeat(1, 2).to(boxes)
    return boxes / ratio / crops.zoom.to(boxes)[:, None, None] + offset[:, None]
