"""From corner maps to boxes: pairs of corners, and the centres that confirm them.

B images, K corners of each kind, N pairs, (H, W) size of the maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.detectors.corner.contracts import CornerNetOutputs
from mmdet_losses.ops import (
    Peaks,
    cell_xy,
    constant,
    gather_cells,
    promote,
    suppress_non_peaks,
    top_peaks,
)

PooledT = TypeVar('PooledT', bound=tuple)


class CornerPairs(NamedTuple):
    """Boxes by descending score; a score of -1 marks a pair that was rejected."""

    boxes: Tensor
    """(B, N, 4) xyxy."""
    scores: Tensor
    """(B, N) mean of the corners' scores (with the centre's, once confirmed), or -1."""
    tl_scores: Tensor
    """(B, N)."""
    br_scores: Tensor
    """(B, N)."""
    labels: Tensor
    """(B, N) int64."""

    @property
    def valid(self) -> Tensor:
        """(B, N) bool: pairs that were not rejected."""
        return self.scores > -1

    def instances(self) -> list[InstanceData]:
        """The pairs of each image that were not rejected, under MMDetection's names."""
        names = ('bboxes', *self._fields[1:])
        return [
            InstanceData(
                **{name: field[image][kept] for name, field in zip(names, self, strict=True)}
            )
            for image, kept in enumerate(self.valid)
        ]


class Centers(NamedTuple):
    """Centre candidates, best first."""

    xy: Tensor
    """(B, K, 2)."""
    scores: Tensor
    """(B, K)."""
    labels: Tensor
    """(B, K) int64."""


def find_peaks(heatmap: Tensor, topk: int, kernel: int = 3) -> Peaks:
    """The ``topk`` best local maxima of (B, C, H, W) logits, over all classes."""
    scores = promote(heatmap).sigmoid()
    return top_peaks(suppress_non_peaks(scores, kernel) if kernel > 1 else scores, topk)


def pair_corners(
    outputs: CornerNetOutputs,
    *,
    topk: int = 100,
    num_dets: int = 1000,
    ae_threshold: float = 0.5,
    peak_kernel: int = 3,
    no_border: bool = False,
) -> CornerPairs:
    """Pair the best corners of both kinds, all with all; boxes in cells.

    Convention:
        Rejected are pairs of two classes, of tags further apart than ``ae_threshold`` (equal
        stays), and with the bottom right left of or above the top left (equal stays). Ranked by
        score with the rejected last; ``topk`` and ``num_dets`` shrink to what the maps hold.

    Args: see ``CornerNetTargetEncoder``.
    """
    tl = find_peaks(outputs.tl_heatmap, topk, peak_kernel)
    br = find_peaks(outputs.br_heatmap, topk, peak_kernel)
    height, width = outputs.tl_heatmap.shape[-2:]
    tl_cell, br_cell = cell_xy(tl.index, width), cell_xy(br.index, width)
    tl_xy = tl_cell + gather_cells(promote(outputs.tl_offset), tl.index)
    br_xy = br_cell + gather_cells(promote(outputs.br_offset), br.index)
    tl_tag = gather_cells(promote(outputs.tl_embedding), tl.index)  # (B, K, 1)
    br_tag = gather_cells(promote(outputs.br_embedding), br.index)

    pairable = tl.labels[:, :, None] == br.labels[:, None, :]
    pairable &= (tl_tag - br_tag.transpose(1, 2)).abs() <= ae_threshold
    pairable &= (br_xy[:, None] >= tl_xy[:, :, None]).all(-1)
    if no_border:
        last = constant([width - 1, height - 1], br_cell)
        pairable &= (tl_cell > 0).all(-1)[:, :, None] & (br_cell < last).all(-1)[:, None, :]
    scores = (tl.scores[:, :, None] + br.scores[:, None, :]) / 2
    scores = torch.where(pairable, scores, -1).flatten(1)

    scores, order = scores.topk(min(num_dets, scores.shape[1]))
    first, second = order.div(br.index.shape[1], rounding_mode='floor'), order % br.index.shape[1]
    return CornerPairs(
        boxes=torch.cat((_rows(tl_xy, first), _rows(br_xy, second)), -1),
        scores=scores,
        tl_scores=tl.scores.gather(1, first),
        br_scores=br.scores.gather(1, second),
        labels=tl.labels.gather(1, first),
    )


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """(B, K, D) and (B, N) to (B, N, D)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def top_centers(heatmap: Tensor, offset: Tensor, topk: int, peak_kernel: int = 3) -> Centers:
    """The best centres of (B, C, H, W) logits and (B, 2, H, W) offsets, in cells.

    There is no threshold on their scores, as officially.
    """
    peaks = find_peaks(heatmap, topk, peak_kernel)
    xy = cell_xy(peaks.index, heatmap.shape[-1]) + gather_cells(promote(offset), peaks.index)
    return Centers(xy, peaks.scores, peaks.labels)


def verify_centers(
    pairs: CornerPairs, centers: Centers, small_area: float = 150.0**2
) -> CornerPairs:
    """Keep the pairs that have a centre of their class in their middle, ranked anew.

    Duan et al., *CenterNet: Keypoint Triplets for Object Detection*, section 3.2.

    Convention:
        The middle is the central third of a box of at most ``small_area`` pixels, the central
        fifth of a larger one, without its border. The first matching centre in the given order
        counts, not the best: the score becomes (2 x corners' mean + centre's) / 3. Pairs without
        a centre are rejected.
    """
    x1, y1, x2, y2 = pairs.boxes.unbind(-1)
    small = (x2 - x1) * (y2 - y1) <= small_area
    near, far, parts = (torch.where(small, *values) for values in ((2.0, 3.0), (1.0, 2.0), (3, 5)))
    x, y = centers.xy[:, None].unbind(-1)
    inside = pairs.labels[..., None] == centers.labels[:, None]
    for low, high, at in ((x1, x2, x), (y1, y2, y)):
        inside &= at > ((near * low + far * high) / parts)[..., None]
        inside &= at < ((far * low + near * high) / parts)[..., None]
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
    """Mark the pairs rejected where (B, N) ``inside`` is false."""
    return pairs._replace(scores=torch.where(inside, pairs.scores, -1))


def pool(views: Sequence[PooledT]) -> PooledT:
    """Pairs or centres of several views of the same images, one view after the other."""
    return type(views[0])(*(torch.cat(field, 1) for field in zip(*views, strict=True)))
