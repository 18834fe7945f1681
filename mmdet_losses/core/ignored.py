"""Ignored regions: parts of an image that are neither object nor background."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core.padding import inside_sides
from mmdet_losses.core.types import Size
from mmdet_losses.ops import GridAnchors, Splats, grid_overlap, is_proper, scale_boxes
from mmdet_losses.ops.kernels import region_cells


class IgnoredRegions(NamedTuple):
    """Padded ignored regions of a batch, R per image."""

    boxes: Tensor
    """(B, R, 4) xyxy input pixels."""
    labels: Tensor
    """(B, R) int64: c or -2 - c hides the heatmap of class c, -1 those of all classes."""
    mask: Tensor
    """(B, R) bool; false in the padding."""

    def cells(self, feat_size: Size, img_size: Size, num_classes: int | None = None) -> Tensor:
        """Cells of a map inside the regions, border cells included.

        Returns:
            (B, num_classes, H, W) bool; without ``num_classes`` (B, 1, H, W), of all labels.
        """
        scale = feat_size[1] / img_size[1], feat_size[0] / img_size[0]
        return region_cells(*self, feat_size, scale, num_classes)

    def covered(self, anchors: GridAnchors, threshold: float, scale: Sequence[float]) -> Tensor:
        """Anchors with a share above ``threshold`` of their area in one region, of any label.

        MMDetection's ``ignore_iof_thr``.

        Args:
            scale: factors of x and y from input pixels to the unit of the anchors.

        Returns:
            (B, P) bool.
        """
        boxes = torch.where(self.mask[..., None], self.boxes, 0)
        share = grid_overlap(scale_boxes(boxes, *scale), anchors, 'iof')
        return share.amax(1) > threshold


Ignored = Sequence[InstanceData | None] | IgnoredRegions | None
"""Ignored annotations of a batch: ``bboxes`` and optional ``labels`` per image; padded; or None."""


def pad_ignored(ignored: Ignored, img_size: Size) -> IgnoredRegions | None:
    """Ignored regions of a batch; None if no image has one.

    Regions that are not finite, empty or outside the image have a false ``mask``. A region without
    labels hides all classes.
    """
    if isinstance(ignored, IgnoredRegions):
        return ignored
    images = cast('Sequence[InstanceData | None]', ignored or ())
    given = [each for each in images if each is not None and len(each)]
    if not given:
        return None
    some = get_box_tensor(given[0].bboxes)
    slots = max(len(each) for each in given)
    boxes = some.new_zeros((len(images), slots, 4), dtype=torch.float32)
    labels = torch.full((len(images), slots), -1, device=some.device)
    for image, each in enumerate(images):
        if each is None or not len(each):
            continue
        boxes[image, : len(each)] = get_box_tensor(each.bboxes).float()
        if 'labels' in each:
            labels[image, : len(each)] = each.labels
    return IgnoredRegions(boxes, labels, is_proper(boxes) & inside_sides(boxes, img_size).all(-1))


def counted_cells(
    heatmap: Splats, regions: IgnoredRegions | None, img_size: Size, by_class: bool = True
) -> Tensor | None:
    """Cells that a heatmap loss uses: outside the regions, or near an object.

    Args:
        by_class: the channels are classes, and a region hides those of its label; otherwise it
            hides all channels.

    Returns:
        (B, C, H, W) bool; None without regions.
    """
    if regions is None:
        return None
    _, channels, height, width = heatmap.shape
    hidden = regions.cells((height, width), img_size, channels if by_class else None)
    return ~hidden | heatmap.covered()


def weigh_cells(
    counted: Tensor | None,
    weights: Tensor | None,
    channel: Tensor,
    index: Tensor,
    mask: Tensor,
    shape: Sequence[int],
) -> Tensor | None:
    """Factors of the cells of a heatmap: ``counted``, times the weights at the objects' cells.

    Of several objects in one cell the largest weight counts.

    Shape:
        weights, channel, index, mask: (B, M), of the objects; without ``weights`` the result is
        ``counted``.
        Returns (B, C, H, W) = ``shape``, float32.
    """
    if weights is None:
        return counted
    batch, channels, height, width = shape
    cells = channels * height * width
    cell = torch.where(mask, channel * height * width + index, cells)
    factor = weights.new_ones(batch, cells + 1)
    factor = factor.scatter_reduce(1, cell, weights, 'amax', include_self=False)
    factor = factor[:, :-1].reshape(batch, channels, height, width)
    return factor if counted is None else factor * counted


def weigh_slots(mask: Tensor, weights: Tensor | None) -> Tensor:
    """A mask of objects, or their float weights where it is true."""
    return mask if weights is None else mask * weights


def encode_batch(
    encoder: Any,
    gt_instances: Sequence[InstanceData],
    feat_sizes: Sequence[Size],
    img_size: Size,
    ignored: Ignored,
) -> Any:
    """Targets of a batch. An encoder without the argument ``ignored`` gets no ignored regions."""
    if 'ignored' in inspect.signature(encoder.encode).parameters:
        return encoder.encode(gt_instances, feat_sizes, img_size, ignored)
    return encoder.encode(gt_instances, feat_sizes, img_size)
