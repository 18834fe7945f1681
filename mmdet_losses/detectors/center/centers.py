"""What the encoders of the centre family share: centres, Gaussians, peaks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mmdet_losses.core import (
    Detections,
    PaddedInstances,
    Size,
    TargetEncoder,
    largest_sides,
)
from mmdet_losses.detectors.center.contracts import CenterOutputsT, CenterTargetsT
from mmdet_losses.ops import (
    BoxRule,
    Peaks,
    Splats,
    box_center,
    box_size,
    boxes_around,
    cell_xy,
    find_peaks,
    gather_cells,
    largest_radius,
    promote,
    scale_boxes,
    splat_gaussians,
    window_radii,
    zero_unless,
)


class Centers(NamedTuple):
    """Centres of a batch's objects; row m of image b is its annotation m.

    Everything is in cells of the output map. Rows where ``mask`` is false are zero, except
    ``boxes``.
    """

    boxes: Tensor
    """(B, M, 4) xyxy."""
    xy: Tensor
    """(B, M, 2) int64 cell of the centre."""
    index: Tensor  # type: ignore[assignment]  # replaces tuple.index
    """(B, M) int64, y * W + x."""
    size: Tensor
    """(B, M, 2) width and height."""
    offset: Tensor
    """(B, M, 2) centre minus cell."""
    labels: Tensor
    """(B, M) int64."""
    mask: Tensor
    """(B, M) bool."""
    radii: tuple[Tensor, Tensor]
    """Half widths of the Gaussians' windows and standard deviations, (B, M) each."""


class GaussianRule(NamedTuple):
    """Sizes of the objects' Gaussians."""

    radius: dict
    """``mode`` and ``min_overlap`` of :func:`~mmdet_losses.ops.gaussian.gaussian_radius`."""
    round_up: bool = True
    """Round sizes up to whole cells first."""
    sigma: float | None = None
    """Standard deviation of every Gaussian, in a window of 3 sigma, instead of one by size."""

    @classmethod
    def legacy(cls, radius: dict | None, sigma: float | None) -> GaussianRule:
        """The official rule: the legacy formula at an IoU of 0.7; ``radius`` replaces a part."""
        return cls({'mode': 'legacy', 'min_overlap': 0.7, **(radius or {})}, sigma=sigma)

    def radii(self, size: Tensor) -> tuple[Tensor, Tensor]:
        """Half width of the window and standard deviation (...), from sizes (..., 2) in cells."""
        if self.sigma is not None:
            one = torch.ones_like(size[..., 0])
            return one * int(3 * self.sigma), one * self.sigma
        return window_radii(size, round_up=self.round_up, **self.radius)

    def draw(
        self,
        xy: Tensor,
        radii: tuple[Tensor, Tensor],
        channel: Tensor,
        mask: Tensor,
        shape: tuple[int, int, int],
    ) -> Splats:
        """Gaussians at cells xy (B, M, 2) with :meth:`radii` of the boxes; shape (C, H, W).

        The window of a box larger than the map is that of a box of the map's size.
        """
        if self.sigma is not None:
            largest = int(3 * self.sigma)
        else:
            largest = largest_radius(*shape[1:], **self.radius)
        return splat_gaussians(xy, *radii, channel, mask, shape, largest)

    def per_object(self, xy: Tensor, size: Tensor, mask: Tensor, feat_size: Size) -> Tensor:
        """One float64 map per object, (B, M, H, W), zero outside the window."""
        radius, sigma = self.radii(size)
        reach, sigma = radius[..., None], sigma.double()[..., None, None]
        dx = torch.arange(feat_size[1], device=xy.device) - xy[..., 0, None]
        dy = torch.arange(feat_size[0], device=xy.device) - xy[..., 1, None]
        distance = (dy**2)[..., :, None] + (dx**2)[..., None, :]
        near = (dy.abs() <= reach)[..., :, None] & (dx.abs() <= reach)[..., None, :]
        value = torch.exp(-distance / (2 * sigma**2))
        return torch.where(near & mask[..., None, None], value, 0)


class CenterTargetEncoder(TargetEncoder[CenterOutputsT, CenterTargetsT]):
    """Base of the family's encoders; see ``CenterNetPointsTargetEncoder`` for the arguments."""

    def __init__(
        self,
        num_classes: int,
        max_objects: int,
        gaussians: GaussianRule,
        topk: int,
        peak_kernel: int,
        clip: bool = True,
    ) -> None:
        self.num_classes, self.max_objects = num_classes, max_objects
        self.gaussians, self.clip = gaussians, clip
        self.topk, self.peak_kernel = topk, peak_kernel

    def locate(self, padded: PaddedInstances, feat_size: Size, img_size: Size) -> Centers:
        """Centres of the boxes that are not empty and whose centre is on the map."""
        height, width = feat_size
        scale = width / img_size[1], height / img_size[0]
        largest = largest_sides(img_size, scale)
        if self.clip:  # then the centre is on the map
            rule = BoxRule((width - 1, height - 1), largest, 'clip', scale)
        else:
            rule = BoxRule((width, height), largest, 'center', scale)
        boxes, labels, mask = padded.usable(self.num_classes, rule)
        center_size = torch.stack((box_center(boxes), box_size(boxes)))
        center, size = zero_unless(mask[..., None], center_size).unbind()
        cell = center.floor()
        xy = cell.long()
        index = xy[..., 1] * width + xy[..., 0]
        radii = self.gaussians.radii(size)
        return Centers(boxes, xy, index, size, center - cell, labels, mask, radii)

    def boxes_at(self, outputs: CenterOutputsT, peaks: Peaks) -> Tensor:
        """Boxes (B, K, 4) of the peaks, in cells."""
        size = gather_cells(promote(outputs.size), peaks.index)
        return boxes_around(
            read_centers(outputs.offset, peaks.index, outputs.heatmap.shape[-1]), size
        )

    def decode_tensors(
        self, outputs: CenterOutputsT, img_size: Size, limit: int = 1000
    ) -> Detections:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`; at most ``topk`` detections."""
        height, width = outputs.heatmap.shape[-2:]
        peaks = find_peaks(outputs.heatmap, min(limit, self.topk), self.peak_kernel)
        boxes = self.boxes_at(outputs, peaks)
        boxes = scale_boxes(boxes, img_size[1] / width, img_size[0] / height)
        return Detections(boxes, peaks.scores, peaks.labels)

    def draw_centers(self, found: Centers, feat_size: Size) -> Splats:
        """Heatmap of the centres, one channel per class."""
        shape = (self.num_classes, *feat_size)
        return self.gaussians.draw(found.xy, found.radii, found.labels, found.mask, shape)


def last_writer(writes: Tensor, values: Tensor) -> Tensor:
    """The value of the last object that writes to a cell, zero in other cells.

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


def spread_by_class(values: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """(B, M, 2) values to (B, M, 2C): at the pair of the row's own class, zero elsewhere."""
    own = labels[..., None] == torch.arange(num_classes, device=labels.device)
    return torch.where(own[..., None], values[..., None, :], 0).flatten(2)


def of_class(values: Tensor, labels: Tensor) -> Tensor:
    """(B, M, 2C) values of all classes and (B, M) labels to the (B, M, 2) of the own class."""
    pairs = values.unflatten(2, (-1, 2))
    return pairs.gather(2, labels[..., None, None].expand(-1, -1, 1, 2)).squeeze(2)
