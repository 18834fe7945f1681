"""Output and target types of the corner family.

B images, C classes, M object slots, (H, W) size of the output map. Heatmaps are logits. Offsets
are in cells of the map, x before y.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

from torch import Tensor

from mmdet_losses.ops import Splats


class Keypoint(NamedTuple):
    """Maps of one kind of corner."""

    heatmap: Tensor
    """(B, C, H, W) logits."""
    embedding: Tensor
    """(B, 1, H, W), equal at both corners of an object."""
    offset: Tensor
    """(B, 2, H, W) corner minus integer cell."""


class CenterKeypoint(NamedTuple):
    """Maps of the centre, which has no embedding."""

    heatmap: Tensor
    """(B, C, H, W) logits."""
    offset: Tensor
    """(B, 2, H, W) centre minus integer cell."""


class CornerNetOutputs(NamedTuple):
    """Two corners, one stack of the network; see ``core.types.stacks`` for ``earlier``."""

    tl: Keypoint
    """Top-left corners."""
    br: Keypoint
    """Bottom-right corners."""
    earlier: tuple[CornerNetOutputs, ...] = ()


class CornerNetSaccadeOutputs(NamedTuple):
    """Two corners, and attention maps that mark the places to enlarge."""

    tl: Keypoint
    br: Keypoint
    attentions: tuple[Tensor, ...]
    """(B, 1, H_l, W_l) logits of object centres per scale, coarsest map (largest objects) first."""
    earlier: tuple[CornerNetSaccadeOutputs, ...] = ()


class CenterNetTripletOutputs(NamedTuple):
    """Two corners and the centre between them."""

    tl: Keypoint
    br: Keypoint
    center: CenterKeypoint
    earlier: tuple[CenterNetTripletOutputs, ...] = ()


class KeypointTarget(NamedTuple):
    """Targets of one kind of corner, or of the centre; unused rows are zero."""

    heatmap: Splats
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which is not used
    """(B, M) int64 cell of the keypoint, y * W + x."""
    offset: Tensor
    """(B, M, 2) keypoint minus integer cell."""
    valid: Tensor | None = None
    """(B, C, H, W) bool, false in cells that the heatmap loss skips, or their float factors; None:
    all count."""


class CornerNetTargets(NamedTuple):
    """Row m of image b is its annotation m; rows where ``mask`` is false are zero."""

    tl: KeypointTarget
    br: KeypointTarget
    mask: Tensor
    """(B, M) bool."""
    num_pos: Tensor
    """Objects in the batch, float32 scalar."""
    num_dropped: Tensor
    """Annotations without a target (dirty, outside, bad label, too many), float32 scalar."""
    weights: Tensor | None = None
    """(B, M) factors of the objects' costs; None without."""


class CornerNetSaccadeTargets(NamedTuple):
    """As ``CornerNetTargets``; ``mask`` and heatmaps hold valid objects only."""

    tl: KeypointTarget
    br: KeypointTarget
    mask: Tensor
    num_pos: Tensor
    num_dropped: Tensor
    attentions: tuple[Splats, ...]
    """A one at the centre of every object of the scale, shapes (B, 1, H_l, W_l)."""
    attention_valid: tuple[Tensor, ...] | None = None
    """(B, 1, H_l, W_l) bool, false in ignored regions; None without such regions."""
    weights: Tensor | None = None


class CenterNetTripletTargets(NamedTuple):
    """As ``CornerNetTargets``, with the centre of each box."""

    tl: KeypointTarget
    br: KeypointTarget
    mask: Tensor
    num_pos: Tensor
    num_dropped: Tensor
    center: KeypointTarget
    weights: Tensor | None = None


CornerOutputsT = TypeVar(
    'CornerOutputsT', bound=CornerNetOutputs | CornerNetSaccadeOutputs | CenterNetTripletOutputs
)
CornerTargetsT = TypeVar(
    'CornerTargetsT', bound=CornerNetTargets | CornerNetSaccadeTargets | CenterNetTripletTargets
)
