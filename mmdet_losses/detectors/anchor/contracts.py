"""Output and target types of the anchor family.

B images, C classes, A anchors per cell, (H, W) size of a map; maps fine to coarse.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from mmdet_losses.ops import BoxCode


class SSDOutputs(NamedTuple):
    """Class logits and encoded boxes.

    The logits are of a softmax with the background last (class C), or of C sigmoids (K = C).
    """

    cls: tuple[Tensor, ...]
    """(B, A * K, H, W) each with K = C + 1, anchor-major; A differs between levels."""
    box: tuple[Tensor, ...]
    """(B, A * 4, H, W) each, anchor-major."""


class RetinaNetOutputs(NamedTuple):
    """Sigmoid logits and encoded boxes."""

    cls: tuple[Tensor, ...]
    """(B, A * C, H, W) each, anchor-major."""
    box: tuple[Tensor, ...]
    """(B, A * 4, H, W) each, anchor-major."""


class SSDTargets(NamedTuple):
    """One entry per prior; P priors in the order level, anchor, row, column."""

    labels: Tensor
    """(B, P) int64 in 0 ... C; C is the background."""
    box: Tensor
    """(B, P, 4) encoded against the object of highest IoU, for negatives too; zero without any."""
    mask: Tensor
    """(B, P) bool, true for positives."""
    code: BoxCode
    """The priors in input pixels; it decodes ``box``."""
    shapes: tuple[tuple[int, int, int], ...]
    """(A, H, W) of each level."""
    num_pos: Tensor
    """Positive priors in the batch, float32 scalar."""
    num_dropped: Tensor
    """Annotations dropped (not finite, empty, outside, bad label), float32 scalar."""
    counted: Tensor | None = None
    """(B, P) bool, false for ignored priors; None counts all."""
    background: bool = True
    """The class maps have a channel for the background."""
    weights: Tensor | None = None
    """(B, P) factors of the costs, 1 for negatives; None without weights of objects."""


class RetinaNetTargets(NamedTuple):
    """One entry per anchor; P anchors in the order level, anchor, row, column.

    ``weights`` as in :class:`SSDTargets`.
    """

    labels: Tensor
    """(B, P) int64 in 0 ... C; C is the background."""
    box: Tensor
    """(B, P, 4) encoded, zero where not positive."""
    mask: Tensor
    """(B, P) bool, true for positives."""
    counted: Tensor
    """(B, P) bool, true for positives and negatives; other anchors are ignored."""
    code: BoxCode
    """The anchors in input pixels; it decodes ``box``."""
    counts: Tensor
    """(B,) int64 positive anchors per image, as the divisor counts them."""
    shapes: tuple[tuple[int, int, int], ...]
    """(A, H, W) of each level."""
    num_pos: Tensor
    """Positive anchors in the batch, float32 scalar."""
    num_dropped: Tensor
    """Annotations dropped (not finite, empty, outside, bad label), float32 scalar."""
    weights: Tensor | None = None
