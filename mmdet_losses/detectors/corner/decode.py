"""Decoding of corner maps: pairs of corners, and the centres that confirm them.

B images, K corners of each kind, N pairs, (H, W) size of the maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core import split_images
from mmdet_losses.detectors.corner.contracts import CenterKeypoint, Keypoint
from mmdet_losses.ops import (
    cell_xy,
    constant,
    find_peaks,
    gather_cells,
    promote,
)

ViewT = TypeVar('ViewT', bound=tuple)


class Pairing(NamedTuple):
    """Rules by which corners are paired; see ``CornerNetTargetEncoder``."""

    topk: int = 100
    num_dets: int = 1000
    ae_threshold: float = 0.5
    peak_kernel: int = 3
    no_border: bool = False


class Corners(NamedTuple):
    """The K best corners of one kind, best first."""

    cell: Tensor
    """(B, K, 2) int64."""
    xy: Tensor
    """(B, K, 2) cell plus offset."""
    embedding: Tensor
    """(B, K)."""
    scores: Tensor
    """(B, K)."""
    labels: Tensor
    """(B, K) int64."""


class CornerPairs(NamedTuple):
    """Boxes by descending score; a score of -1 marks a rejected pair."""

    boxes: Tensor
    """(B, N, 4) xyxy."""
    scores: Tensor
    """(B, N) mean of the corners' scores, after ``verify_centers`` with the centre's; or -1."""
    tl_scores: Tensor
    """(B, N)."""
    br_scores: Tensor
    """(B, N)."""
    labels: Tensor
    """(B, N) int64."""

    @property
    def valid(self) -> Tensor:
        """(B, N) bool, false for rejected pairs."""
        return self.scores > -1

    def instances(self) -> list[InstanceData]:
        """The valid pairs of each image, with MMDetection's field names; on a GPU all pairs."""
        fields = zip(('bboxes', *self._fields[1:]), self, strict=True)
        if self.scores.device.type != 'cpu':
            return split_images(**dict(fields))
        return [image[image.scores > -1] for image in split_images(**dict(fields))]


class CenterCandidates(NamedTuple):
    """Centre candidates, best first."""

    xy: Tensor
    """(B, K, 2)."""
    scores: Tensor
    """(B, K)."""
    labels: Tensor
    """(B, K) int64."""


def find_corners(corner: Keypoint, topk: int, peak_kernel: int = 3) -> Corners:
    """The best corners of one kind."""
    peaks = find_peaks(corner.heatmap, topk, peak_kernel)
    cell = cell_xy(peaks.index, corner.heatmap.shape[-1])
    xy = cell + gather_cells(promote(corner.offset), peaks.index)
    embedding = gather_cells(promote(corner.embedding), peaks.index).squeeze(-1)
    return Corners(cell, xy, embedding, peaks.scores, peaks.labels)


def pair_corners(tl: Keypoint, br: Keypoint, rules: Pairing) -> CornerPairs:
    """Pair each of the best top-left corners with each of the best bottom-right corners.

    Convention:
        A pair is valid if both corners have the same class, if their embeddings differ by at most
        ``ae_threshold``, and if the bottom-right corner is not left of or above the top-left
        corner. ``no_border`` also rejects corners in border cells. Rejected pairs have the score
        -1 and come last. Boxes are in cells. A ``topk`` above the number of cells and a
        ``num_dets`` above the number of pairs are reduced to these numbers.
    """
    height, width = tl.heatmap.shape[-2:]
    first, second = (find_corners(corner, rules.topk, rules.peak_kernel) for corner in (tl, br))

    valid = first.labels[:, :, None] == second.labels[:, None, :]
    distance = first.embedding[:, :, None] - second.embedding[:, None, :]
    valid = valid & (distance.abs() <= rules.ae_threshold)
    valid = valid & (second.xy[:, None] >= first.xy[:, :, None]).all(-1)
    if rules.no_border:
        last = constant([width - 1, height - 1], second.cell)
        valid = valid & (first.cell > 0).all(-1)[:, :, None]
        valid = valid & (second.cell < last).all(-1)[:, None, :]
    scores = (first.scores[:, :, None] + second.scores[:, None, :]) / 2
    scores = torch.where(valid, scores, -1).flatten(1)

    scores, order = scores.topk(min(rules.num_dets, scores.shape[1]))
    count = second.scores.shape[1]
    row, column = order.div(count, rounding_mode='floor'), order % count
    return CornerPairs(
        boxes=torch.cat((_rows(first.xy, row), _rows(second.xy, column)), -1),
        scores=scores,
        tl_scores=first.scores.gather(1, row),
        br_scores=second.scores.gather(1, column),
        labels=first.labels.gather(1, row),
    )


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """(B, K, D) and (B, N) to (B, N, D)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def top_centers(center: CenterKeypoint, topk: int, peak_kernel: int = 3) -> CenterCandidates:
    """The best centres, in cells; their scores have no threshold, as in the official code."""
    heatmap, offset = center
    peaks = find_peaks(heatmap, topk, peak_kernel)
    xy = cell_xy(peaks.index, heatmap.shape[-1]) + gather_cells(promote(offset), peaks.index)
    return CenterCandidates(xy, peaks.scores, peaks.labels)


def verify_centers(
    pairs: CornerPairs, centers: CenterCandidates, small_area: float = 150.0**2
) -> CornerPairs:
    """Keep the pairs with a centre of their class in their middle; update scores and order.

    Duan et al., *CenterNet: Keypoint Triplets for Object Detection*, section 3.2.

    Convention:
        The middle is the central third of a box of at most ``small_area`` pixels and the central
        fifth of a larger one; its border is excluded. The first matching centre in the given
        order counts, not the best. The score becomes (2 x corners' mean + centre's) / 3. Pairs
        without a centre are rejected.
    """
    x1, y1, x2, y2 = pairs.boxes.unbind(-1)
    small = (x2 - x1) * (y2 - y1) <= small_area
    near, far, parts = (torch.where(small, *values) for values in ((2.0, 3.0), (1.0, 2.0), (3, 5)))
    x, y = centers.xy[:, None].unbind(-1)
    inside = pairs.labels[..., None] == centers.labels[:, None]
    for low, high, at in ((x1, x2, x), (y1, y2, y)):
        inside = inside & (at > ((near * low + far * high) / parts)[..., None])
        inside = inside & (at < ((far * low + near * high) / parts)[..., None])
    count = centers.scores.shape[1]
    order = torch.arange(count, device=inside.device)
    first = torch.where(inside, order, count).amin(-1)
    center = centers.scores.gather(1, first.clamp(max=count - 1))
    scores = (2 * pairs.scores + center) / 3
    scores = torch.where((first < count) & pairs.valid, scores, -1)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    others = (field.gather(1, order) for field in pairs[2:])
    return CornerPairs(_rows(pairs.boxes, order), scores, *others)


def reject_outside(pairs: CornerPairs, inside: Tensor) -> CornerPairs:
    """Reject the pairs where ``inside`` (B, N) is false."""
    return pairs._replace(scores=torch.where(inside, pairs.scores, -1))


def concat_views(views: Sequence[ViewT]) -> ViewT:
    """Pairs or centres of several views of the same images as one, view after view."""
    return type(views[0])(*(torch.cat(field, 1) for field in zip(*views, strict=True)))
