"""Output and target types of the YOLO family.

B images, C classes, A anchors (YOLOv1: boxes) per cell, (H, W) size of a map. Outputs are raw: no
sigmoid, exponential or softmax.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

from torch import Tensor

from mmdet_losses.detectors.yolo.cells import Grid


class YOLOV1Outputs(NamedTuple):
    """One grid of S x S cells; everything is linear."""

    cls: Tensor
    """(B, C, S, S) class scores of each cell."""
    conf: Tensor
    """(B, A, S, S) confidence of each box."""
    box: Tensor
    """(B, A, 4, S, S) x, y inside the cell, and square roots of width and height over the image."""


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


class GaussianYOLOOutputs(NamedTuple):
    """Maps of Gaussian YOLOv3, in the order of the cfg; channels of ``levels`` as in YOLOv2."""

    levels: tuple[Tensor, ...]
    """(B, A * (5 + C), H, W) each; x, y, w, h are means."""
    sigmas: tuple[Tensor, ...]
    """(B, A * 4, H, W) each, logits of the standard deviations of x, y, w, h."""


GridOutputs = (
    YOLOV2Outputs | YOLOV3Outputs | YOLOV4Outputs | ScaledYOLOV4Outputs | GaussianYOLOOutputs
)
GridOutputsT = TypeVar('GridOutputsT', bound=GridOutputs)


class GridLevel(NamedTuple):
    """Anchors of one map that stand for the M objects of an image."""

    positive: Tensor
    """(B, A, M) bool; the anchors stand in the cell of the object's centre."""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which is not used
    """(B, M) int64 cell of the centre, y * W + x."""
    grid: Grid


class GridTargets(NamedTuple):
    """Targets of YOLOv2, v3 and v4, with all that the criterion needs to judge predictions."""

    boxes: Tensor
    """(B, M, 4) cxcywh fractions of the image, clipped to it; zero where ``mask`` is false."""
    labels: Tensor
    """(B, M) int64."""
    mask: Tensor
    """(B, M) bool, in the order of the annotations."""
    levels: tuple[GridLevel, ...]
    several: bool
    """An object may have several anchors."""
    num_pos: Tensor
    """(object, anchor) pairs over all maps, float32 scalar."""
    num_dropped: Tensor
    """Annotations dropped (not finite, too small, outside, bad label), float32 scalar."""
    hidden: tuple[Tensor, ...] | None = None
    """(B, A, N) bool per map, anchors in ignored regions; None without such regions."""
    weights: Tensor | None = None
    """(B, M) factors of the objects' costs; None without."""


class ScaledLevel(NamedTuple):
    """Anchors of one map that stand for objects.

    K is five times the M objects: the cell of the centre and its left, upper, right and lower
    neighbour.
    """

    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which is not used
    """(B, A, K) int64 cell, y * W + x; a cell can occur several times."""
    box: Tensor
    """(B, A, K, 4) centre relative to the corner of the cell, width, height; in cells."""
    labels: Tensor
    """(B, A, K) int64."""
    mask: Tensor
    """(B, A, K) bool."""
    grid: Grid
    weights: Tensor | None = None
    """(B, A, K) factors of the objects' costs; None without."""


class ScaledYOLOV4Targets(NamedTuple):
    """Targets of Scaled-YOLOv4: one :class:`ScaledLevel` per map."""

    levels: tuple[ScaledLevel, ...]
    num_pos: Tensor
    """Positive slots over all maps, float32 scalar."""
    num_dropped: Tensor
    """Annotations dropped (not finite, empty, outside, bad label), float32 scalar."""
    hidden: tuple[Tensor, ...] | None = None
    """(B, A, N) bool per map, anchors in ignored regions; None without such regions."""


class YOLOV1Targets(NamedTuple):
    """Targets of YOLOv1: one object per cell; zero in cells without an object."""

    labels: Tensor
    """(B, S, S) int64."""
    box: Tensor
    """(B, 4, S, S) x, y inside the cell, width, height as fractions of the image."""
    mask: Tensor
    """(B, S, S) bool."""
    num_pos: Tensor
    """Cells with an object, float32 scalar."""
    num_dropped: Tensor
    """Annotations without a cell (not finite, too small, outside, bad label, or another object is
    first in the cell), float32 scalar."""
    hidden: Tensor | None = None
    """(B, S, S) bool, cells in ignored regions; None without such regions."""
    weights: Tensor | None = None
    """(B, S, S) factors of the objects' costs; None without."""
