"""Where CornerNet-Saccade looks next: locations, the crops around them, and the way back.

Law et al., *CornerNet-Lite: Efficient Keypoint Based Object Detection*, section 3.

A location is a row of float64 (y, x, zoom, score): a point in pixels of the original image, the
factor by which it is to be enlarged, and how sure the network is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_losses.core import Size
from mmdet_losses.ops import suppress_non_peaks


class Looks(NamedTuple):
    """Square pieces of one image at their own zoom, as network inputs."""

    zoom: Tensor
    """(N,) float64, input pixels an image pixel."""
    offset: Tensor
    """(N, 2) float64 (y, x) image pixel at the input's origin."""


def attention_locations(
    attentions: Sequence[Tensor],
    looks: Looks,
    image_size: Size,
    *,
    strides: Sequence[int] = (16, 8, 4),
    zooms: Sequence[float] = (1, 2, 4),
    threshold: float = 0.3,
    enlarge_only: bool = False,
) -> Tensor:
    """Peaks of the attention maps as locations (n, 4), look by look, map by map.

    Convention:
        A peak is the maximum of its 3 x 3 window and above ``threshold``. It stands for its
        cell's top-left pixel, not the middle, and is kept inside the image. A map is passed over
        where the look is already enlarged more than 2 times, or the next one would be more than
        4 times, or, with ``enlarge_only`` (looks after the first), its own zoom is 1 or less.

    Args:
        attentions: (N, 1, H_l, W_l) scores, not logits, coarsest map first.
        strides: input pixels a cell of each map.
        zooms: how much closer the next look is, by map.
    """
    found = [looks.zoom.new_zeros(0, 4)]
    peaks = [suppress_non_peaks(attention) for attention in attentions]
    for look, (zoom, offset) in enumerate(zip(looks.zoom.tolist(), looks.offset, strict=True)):
        for peak, stride, factor in zip(peaks, strides, zooms, strict=True):
            if zoom > 2 or factor * zoom > 4 or (enlarge_only and factor <= 1):
                continue
            cells = (peak[look, 0] > threshold).nonzero()
            yx = cells * stride / looks.zoom[look] + offset
            inside = (yx >= 0).all(1) & (yx < yx.new_tensor(image_size)).all(1)
            scores = peak[look, 0][cells[:, 0], cells[:, 1]].to(yx)
            rows = torch.cat((yx, torch.full_like(yx[:, :1], factor * zoom), scores[:, None]), 1)
            found.append(rows[inside])
    return torch.cat(found)


def detection_locations(boxes: Tensor, scores: Tensor, threshold: float = 0.5) -> Tensor:
    """A closer look at every detection above ``threshold``: locations (n, 4) with score 1.

    Convention:
        A longest side of more than 96 pixels is brought to 192, of more than 32 to 64, any other
        to 24.
    """
    boxes = boxes[scores > threshold]
    side = (boxes[:, 2:] - boxes[:, :2]).amax(1)
    wanted = torch.where(side > 96, 192.0, torch.where(side > 32, 64.0, 24.0))
    center = (boxes[:, :2] + boxes[:, 2:]).flip(1) / 2
    rows = torch.cat((center, (wanted / side)[:, None], torch.ones_like(side)[:, None]), 1)
    return rows.double()


def suppress_locations(locations: Tensor, distance: float = 16, most: int | None = None) -> Tensor:
    """Drop locations near a better one at a similar zoom; (n, 4) by descending score.

    Convention:
        Of equal scores the last comes first, which is the order of the official test. Near is
        within ``distance`` / zoom pixels along x OR along y, as officially; a similar zoom is
        within a ratio of [0.8, 1.2], the better one's over the other's.
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


def whole_image_locations(image_size: Size, sides: Sequence[int] = (192, 255)) -> Tensor:
    """The first looks: the whole image, its longest side brought to each of ``sides``; (n, 3).

    Convention:
        Zooms are rounded to float32, as officially: on that depends which of two places exactly
        at the suppression distance is kept.
    """
    height, width = image_size
    zoom = (torch.tensor(sides, dtype=torch.float64) / max(height, width)).float().double()
    center = torch.tensor([height // 2, width // 2], dtype=torch.float64)
    return torch.cat((center.expand(len(zoom), 2), zoom[:, None]), 1)


def look_at(locations: Tensor, input_size: Size) -> Looks:
    """The looks at locations (n, 3 or 4), each a crop of ``input_size`` / zoom image pixels."""
    sides = (locations.new_tensor(input_size).double() / locations[:, 2:3].double()).trunc()
    offset = locations[:, :2].double().trunc() - (sides / 2).floor()
    return Looks(locations[:, 2].double(), offset)


def crop_looks(image: Tensor, locations: Tensor, input_size: Size) -> Tensor:
    """What the network sees: (N, C, h, w), zero where the crop leaves the image.

    Args:
        image: (C, H, W) float.
        locations: (N, 3 or 4).

    Convention:
        Around the integer pixel, half the side on both sides; the part inside the image is
        enlarged by input / side, extents truncated, bilinear without aligned corners.
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
    """Image pixels [start, stop) of a crop along one axis, and where in the input they go."""
    start, stop = max(0, middle - side // 2), min(middle + side // 2, limit)
    ratio = size / max(side, 1)  # an empty detection asks for an infinite zoom
    first = size // 2 - int(ratio * (middle - start))
    return start, stop, first, size // 2 + int(ratio * (stop - middle))


def boxes_of_looks(boxes: Tensor, looks: Looks, feat_size: Size, input_size: Size) -> Tensor:
    """Boxes (N, n, 4) in cells of each look to pixels of the image, not clipped to it."""
    ratio = boxes.new_tensor([feat_size[1] / input_size[1], feat_size[0] / input_size[0]] * 2)
    offset = looks.offset.flip(1).repeat(1, 2).to(boxes)
    return boxes / ratio / looks.zoom.to(boxes)[:, None, None] + offset[:, None]
