"""What the networks of the YOLO family say, and what they should have said.

B images, C classes, A anchors (YOLOv1: boxes) a cell, (H, W) size of a map. Values are raw: no
sigmoid, no exponential, no softmax.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class YOLOV1Outputs(NamedTuple):
    """One grid of S x S cells; everything is linear."""

    cls: Tensor
    """(B, C, S, S) class scores of a cell."""
    conf: Tensor
    """(B, A, S, S) confidence of each box."""
    box: Tensor
    """(B, A, 4, S, S) x and y inside the cell, square roots of width and height over the image."""


class YOLOV2Outputs(NamedTuple):
    """One map; channels are anchor-major, ``a * (5 + C) + (x, y, w, h, objectness, classes)``."""

    levels: tuple[Tensor, ...]
    """One (B, A * (5 + C), H, W)."""


class YOLOV3Outputs(NamedTuple):
    """Maps coarse to fine (strides 32, 16, 8), the official order; channels as in YOLOv2."""

    levels: tuple[Tensor, ...]
    """(B, A * (5 + C), H, W) each."""


class YOLOV4Outputs(NamedTuple):
    """Maps fine to coarse (strides 8, 16, 32), the official order; channels as in YOLOv2."""

    levels: tuple[Tensor, ...]
    """(B, A * (5 + C), H, W) each."""


class ScaledYOLOV4Outputs(NamedTuple):
    """Maps fine to coarse (strides 8, 16, 32, ...); channels as in YOLOv2."""

    levels: tuple[Tensor, ...]
    """(B, A * (5 + C), H, W) each."""


class ScaledLevel(NamedTuple):
    """What the anchors of one map stand for; K slots an anchor, five (the cell of the centre and
    its left, upper, right and lower neighbour) times M objects."""

    index: Tensor
    """(B, A, K) int64 cell, y * W + x; a cell can repeat."""
    box: Tensor
    """(B, A, K, 4) centre relative to the corner of the cell, width, height; in cells."""
    labels: Tensor
    """(B, A, K) int64."""
    mask: Tensor
    """(B, A, K) bool."""
    anchors: Tensor
    """(A, 2) width and height in cells."""
    size: tuple[int, int]
    """(H, W)."""


class ScaledYOLOV4Targets(NamedTuple):
    """One :class:`ScaledLevel` a map."""

    levels: tuple[ScaledLevel, ...]
    num_pos: Tensor
    """Positive slots over all maps, float32 scalar."""
    num_dropped: Tensor
    """Annotations left out (not finite, empty, outside, bad label), float32 scalar."""


class GridLevel(NamedTuple):
    """Which anchors of one map the M objects of an image claim, and that map's geometry."""

    positive: Tensor
    """(B, A, M) bool; an object claims anchors in the cell of its centre."""
    index: Tensor
    """(B, M) int64 cell of the centre, y * W + x."""
    anchors: Tensor
    """(A, 2) width and height as fractions of the image."""
    size: tuple[int, int]
    """(H, W)."""
    scale_xy: float
    """Grid sensitivity: a centre is ``scale_xy * sigmoid(t) - (scale_xy - 1) / 2`` in its cell."""
    squared: bool
    """Sizes are anchors times (2 sigmoid(t))^2 instead of times exp(t)."""


class GridTargets(NamedTuple):
    """Ground truth of YOLOv2, v3 and v4, and what the criterion needs to judge predictions."""

    boxes: Tensor
    """(B, M, 4) cxcywh fractions of the image, clipped to it; zero where ``mask`` is false."""
    labels: Tensor
    """(B, M) int64."""
    mask: Tensor
    """(B, M) bool, in the order of the annotations."""
    levels: tuple[GridLevel, ...]
    several: bool
    """Objects may claim more anchors than their best."""
    num_pos: Tensor
    """(object, anchor) pairs over all maps, float32 scalar."""
    num_dropped: Tensor
    """Annotations left out (not finite, below a pixel, outside, bad label), float32 scalar."""


class YOLOV1Targets(NamedTuple):
    """One object a cell; everything is zero in cells without one."""

    labels: Tensor
    """(B, S, S) int64."""
    box: Tensor
    """(B, 4, S, S) x, y inside the cell, width, height as fractions of the image."""
    mask: Tensor
    """(B, S, S) bool."""
    num_pos: Tensor
    """Cells with an object, float32 scalar."""
    num_dropped: Tensor
    """Annotations without a cell (not finite, too small, outside, bad label, or behind another
    one in its cell), float32 scalar."""
