"""What the networks of the corner family say, and what they should have said.

B images, C classes, M object slots, (H, W) size of the output map. Heatmaps are logits, offsets
are in cells of the map, x before y.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from mmdet_losses.ops import Splats


class CornerNetOutputs(NamedTuple):
    """Two corners, one stack of the network; see ``core.types.stacks`` for ``earlier``."""

    tl_heatmap: Tensor
    """(B, C, H, W) logits of top-left corners."""
    br_heatmap: Tensor
    """(B, C, H, W) logits of bottom-right corners."""
    tl_embedding: Tensor
    """(B, 1, H, W) tag by which corners find each other."""
    br_embedding: Tensor
    """(B, 1, H, W)."""
    tl_offset: Tensor
    """(B, 2, H, W) corner minus integer cell."""
    br_offset: Tensor
    """(B, 2, H, W)."""
    earlier: tuple[CornerNetOutputs, ...] = ()


class CornerNetSaccadeOutputs(NamedTuple):
    """Two corners and where to look next; first fields as in ``CornerNetOutputs``."""

    tl_heatmap: Tensor
    br_heatmap: Tensor
    tl_embedding: Tensor
    br_embedding: Tensor
    tl_offset: Tensor
    br_offset: Tensor
    attentions: tuple[Tensor, ...]
    """(B, 1, H_l, W_l) logits of object centres per scale, coarsest map (largest objects) first."""
    earlier: tuple[CornerNetSaccadeOutputs, ...] = ()


class CenterNetTripletOutputs(NamedTuple):
    """Two corners and the centre between them; first fields as in ``CornerNetOutputs``."""

    tl_heatmap: Tensor
    br_heatmap: Tensor
    tl_embedding: Tensor
    br_embedding: Tensor
    tl_offset: Tensor
    br_offset: Tensor
    center_heatmap: Tensor
    """(B, C, H, W) logits of object centres."""
    center_offset: Tensor
    """(B, 2, H, W) centre minus integer cell."""
    earlier: tuple[CenterNetTripletOutputs, ...] = ()


class CornerNetTargets(NamedTuple):
    """Row m of image b is its annotation m; rows where ``mask`` is false are zero."""

    tl_heatmap: Splats
    br_heatmap: Splats
    tl_index: Tensor
    """(B, M) int64 cell of the top-left corner, y * W + x."""
    br_index: Tensor
    """(B, M) int64."""
    tl_offset: Tensor
    """(B, M, 2) corner minus integer cell."""
    br_offset: Tensor
    """(B, M, 2)."""
    mask: Tensor
    """(B, M) bool."""
    num_pos: Tensor
    """Objects in the batch, float32 scalar."""
    num_dropped: Tensor
    """Annotations without a target (dirty, outside, bad label, too many), float32 scalar."""


class CornerNetSaccadeTargets(NamedTuple):
    """First fields as in ``CornerNetTargets``; ``mask`` and heatmaps hold valid objects only."""

    tl_heatmap: Splats
    br_heatmap: Splats
    tl_index: Tensor
    br_index: Tensor
    tl_offset: Tensor
    br_offset: Tensor
    mask: Tensor
    num_pos: Tensor
    num_dropped: Tensor
    tl_valid: Tensor
    """(B, C, H, W) bool; false in the windows of invalid objects, where no cell counts."""
    br_valid: Tensor
    """(B, C, H, W) bool."""
    attentions: tuple[Splats, ...]
    """A one at the centre of every object of the scale, shapes (B, 1, H_l, W_l)."""


class CenterNetTripletTargets(NamedTuple):
    """First fields as in ``CornerNetTargets``."""

    tl_heatmap: Splats
    br_heatmap: Splats
    tl_index: Tensor
    br_index: Tensor
    tl_offset: Tensor
    br_offset: Tensor
    mask: Tensor
    num_pos: Tensor
    num_dropped: Tensor
    center_heatmap: Splats
    center_index: Tensor
    """(B, M) int64 cell of the box's centre."""
    center_offset: Tensor
    """(B, M, 2) centre minus integer cell."""
