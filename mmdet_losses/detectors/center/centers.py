"""Centres on the output map: what every encoder of the family writes and reads."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mmdet_losses.core import Size
from mmdet_losses.ops import (
    Splats,
    box_center,
    box_size,
    cell_xy,
    gather_cells,
    gaussian_radius,
    is_proper,
    largest_radius,
    promote,
    splat_gaussians,
)


class Centers(NamedTuple):
    """Row m of image b is its annotation m; rows where ``mask`` is false are zero.

    Sizes, offsets and cells are of the output map.
    """

    xy: Tensor
    """(B, M, 2) int64 cell of the centre."""
    index: Tensor
    """(B, M) int64, y * W + x."""
    size: Tensor
    """(B, M, 2) width and height."""
    offset: Tensor
    """(B, M, 2) centre minus cell."""
    labels: Tensor
    """(B, M) int64."""
    mask: Tensor
    """(B, M) bool."""


def locate(
    boxes: Tensor, labels: Tensor, valid: Tensor, num_classes: int, feat_size: Size
) -> Centers:
    """Centres of boxes (B, M, 4) in cells, of those that are not empty and lie on the map."""
    height, width = feat_size
    center, size = box_center(boxes), box_size(boxes)
    x, y = center.unbind(-1)
    mask = valid & is_proper(boxes) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    mask = mask & (labels >= 0) & (labels < num_classes)
    kept = mask[..., None]
    center, size = torch.where(kept, center, 0), torch.where(kept, size, 0)
    cell = center.floor()
    xy = cell.long()
    index = xy[..., 1] * width + xy[..., 0]
    return Centers(xy, index, size, center - cell, torch.where(mask, labels, 0), mask)


class Pen(NamedTuple):
    """How large an object's Gaussian is."""

    radius: dict
    """Arguments of :func:`~mmdet_losses.ops.gaussian.gaussian_radius`."""
    round_up: bool = True
    """Sizes are rounded up to whole cells first."""
    sigma: float | None = None
    """Draw every Gaussian with this standard deviation in a window of 3 sigma instead."""

    def radii(self, size: Tensor) -> tuple[Tensor, Tensor]:
        """Half width of the window and standard deviation (...), from sizes (..., 2) in cells."""
        if self.sigma is not None:
            one = torch.ones_like(size[..., 0])
            return one * int(3 * self.sigma), one * self.sigma
        size = size.ceil() if self.round_up else size
        radius = gaussian_radius(size[..., 1], size[..., 0], **self.radius).floor()
        return radius, (2 * radius + 1) / 6

    def draw(
        self, xy: Tensor, size: Tensor, channel: Tensor, mask: Tensor, shape: tuple[int, int, int]
    ) -> Splats:
        """Gaussians at cells xy (B, M, 2) of boxes of ``size`` (B, M, 2); shape (C, H, W).

        A box larger than the map has the window, not the deviation, of one that fills it.
        """
        radius, sigma = self.radii(size)
        if self.sigma is not None:
            largest = int(3 * self.sigma)
        else:
            largest = largest_radius(*shape[1:], **self.radius)
        return splat_gaussians(xy, radius, sigma, channel, mask, shape, largest)

    def gaussians(self, xy: Tensor, size: Tensor, mask: Tensor, feat_size: Size) -> Tensor:
        """One float64 map an object, (B, M, H, W), zero outside the window."""
        radius, sigma = self.radii(size)
        reach, sigma = radius[..., None], sigma.double()[..., None, None]
        dx = torch.arange(feat_size[1], device=xy.device) - xy[..., 0, None]
        dy = torch.arange(feat_size[0], device=xy.device) - xy[..., 1, None]
        distance = (dy**2)[..., :, None] + (dx**2)[..., None, :]
        near = (dy.abs() <= reach)[..., :, None] & (dx.abs() <= reach)[..., None, :]
        value = torch.exp(-distance / (2 * sigma**2))
        return torch.where(near & mask[..., None, None], value, 0)


def last_writer(writes: Tensor, values: Tensor) -> Tensor:
    """The value of the last object that writes to a cell, zero where none does.

    Shape:
        writes: (B, M, H, W) bool; values: (B, M, D). Returns (B, D, H, W).
    """
    order = torch.arange(1, writes.shape[1] + 1, device=writes.device)[:, None, None]
    writer = torch.where(writes, order, 0).amax(1).flatten(1)
    rows = torch.cat((torch.zeros_like(values[:, :1]), values), 1)
    written = rows.gather(1, writer[..., None].expand(-1, -1, values.shape[2])).transpose(1, 2)
    return written.unflatten(2, writes.shape[-2:])


def read_centers(offset: Tensor | None, index: Tensor, width: int) -> Tensor:
    """Centres (B, K, 2) at the cells ``index`` (B, K): the cell plus the offset (B, 2, H, W).

    Without an offset branch it is the middle of the cell.
    """
    cell = cell_xy(index, width)
    return cell + (0.5 if offset is None else gather_cells(promote(offset), index))


def as_logits(heatmap: Tensor) -> Tensor:
    """Finite logits of a target map."""
    return torch.logit(heatmap, eps=1e-6)


def spread_by_class(values: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """(B, M, 2) values to (B, M, 2C): at the pair of the row's own class, zero elsewhere."""
    own = labels[..., None] == torch.arange(num_classes, device=labels.device)
    return torch.where(own[..., None], values[..., None, :], 0).flatten(2)


def of_class(values: Tensor, labels: Tensor) -> Tensor:
    """(B, M, 2C) values of all classes and (B, M) labels to the (B, M, 2) of the own class."""
    pairs = values.unflatten(2, (-1, 2))
    return pairs.gather(2, labels[..., None, None].expand(-1, -1, 1, 2)).squeeze(2)
