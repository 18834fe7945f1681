"""Output and target types of the centre family.

B images, C classes, M object slots, (H, W) size of the output map; sizes, offsets and
displacements are in cells of that map. Heatmaps are logits. ``None`` means that the network lacks
the branch.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

from torch import Tensor

from mmdet_losses.ops import Splats


class CenterNetPointsOutputs(NamedTuple):
    """Objects as points, one stack of the network; see ``core.types.stacks`` for ``earlier``."""

    heatmap: Tensor
    """(B, C, H, W) logits of object centres."""
    size: Tensor
    """(B, 2, H, W) width and height; (B, 2C, H, W) where sizes are class-specific."""
    offset: Tensor | None
    """(B, 2, H, W) centre minus integer cell, x and y."""
    earlier: tuple[CenterNetPointsOutputs, ...] = ()


class CenterNetPoseOutputs(NamedTuple):
    """Persons and their K keypoints, one stack of the network."""

    heatmap: Tensor
    """(B, C, H, W) logits of person centres."""
    size: Tensor
    """(B, 2, H, W) width and height."""
    keypoints: Tensor
    """(B, 2K, H, W) keypoint minus integer cell of the centre; x and y of each keypoint in turn."""
    offset: Tensor | None
    """(B, 2, H, W) centre minus integer cell, x and y."""
    keypoint_heatmap: Tensor | None
    """(B, K, H, W) logits of keypoints."""
    keypoint_offset: Tensor | None
    """(B, 2, H, W) keypoint minus its integer cell, for all keypoints."""
    earlier: tuple[CenterNetPoseOutputs, ...] = ()


class CenterTrackOutputs(NamedTuple):
    """Objects as points and their displacements between frames, one stack of the network."""

    heatmap: Tensor
    """(B, C, H, W) logits of object centres."""
    size: Tensor
    """(B, 2, H, W) width and height."""
    offset: Tensor | None
    """(B, 2, H, W) centre minus integer cell, x and y."""
    tracking: Tensor | None
    """(B, 2, H, W) centre in the previous frame minus integer cell, x and y."""
    ltrb_amodal: Tensor | None = None
    """(B, 4, H, W) edges of the unclipped box minus integer cell: left, top, right, bottom."""
    ltrb: Tensor | None = None
    """(B, 4, H, W) the same edges of the box clipped to the image."""
    keypoints: Tensor | None = None
    """This and the next two: branches of :class:`CenterNetPoseOutputs`, if the network has them."""
    keypoint_heatmap: Tensor | None = None
    keypoint_offset: Tensor | None = None
    earlier: tuple[CenterTrackOutputs, ...] = ()

    def pose(self) -> CenterNetPoseOutputs | None:
        """The same outputs for the encoder of poses; None without keypoints."""
        if self.keypoints is None:
            return None
        heatmap, size = self.heatmap, self.size.clamp(min=0)
        points = self.keypoint_heatmap, self.keypoint_offset
        return CenterNetPoseOutputs(heatmap, size, self.keypoints, self.offset, *points)


class DenseSize(NamedTuple):
    """A size for every cell, the option ``size_target='dense'``."""

    size: Tensor
    """(B, 2, H, W)."""
    weight: Tensor
    """(B, 2, H, W) in [0, 1]: the heatmap's maximum over classes."""


class CenterNetPointsTargets(NamedTuple):
    """Row m of image b is its annotation m; rows where ``mask`` is false are zero."""

    heatmap: Splats
    index: Tensor  # type: ignore[assignment]  # replaces tuple.index
    """(B, M) int64 cell of the centre, y * W + x."""
    labels: Tensor
    """(B, M) int64."""
    size: Tensor
    """(B, M, 2) width and height of the clipped box."""
    offset: Tensor
    """(B, M, 2) centre minus integer cell."""
    mask: Tensor
    """(B, M) bool."""
    num_pos: Tensor
    """Objects in the batch, float32 scalar."""
    num_dropped: Tensor
    """Annotations without a target (not finite, empty, outside, bad label), float32 scalar."""
    dense_size: DenseSize | None = None
    counted: Tensor | None = None
    """(B, C, H, W) bool, cells of the heatmap that count, or their float factors; None: all."""
    weights: Tensor | None = None
    """(B, M) factors of the objects' costs; None without."""


class DenseKeypoints(NamedTuple):
    """Keypoints for every cell near a person, the option ``keypoint_target='dense'``."""

    keypoints: Tensor
    """(B, 2K, H, W) keypoint minus cell."""
    weight: Tensor
    """(B, 2K, H, W) in [0, 1]: the Gaussians of the persons that have the keypoint."""


class CenterNetPoseTargets(NamedTuple):
    """Row m of image b is its person m, row m * K + k of the keypoints is keypoint k of person m.

    Unused rows are zero.
    """

    heatmap: Splats
    index: Tensor  # type: ignore[assignment]  # replaces tuple.index
    """(B, M) int64 cell of the centre, y * W + x."""
    labels: Tensor
    """(B, M) int64."""
    size: Tensor
    """(B, M, 2) width and height of the clipped box."""
    offset: Tensor
    """(B, M, 2) centre minus integer cell."""
    mask: Tensor
    """(B, M) bool; false also for persons without a labelled keypoint."""
    keypoints: Tensor
    """(B, M, 2K) keypoint minus integer cell of the centre."""
    keypoint_mask: Tensor
    """(B, M, K) bool: labelled and on the map."""
    keypoint_heatmap: Splats
    keypoint_index: Tensor
    """(B, M * K) int64 cell of the keypoint."""
    keypoint_offset: Tensor
    """(B, M * K, 2) keypoint minus its integer cell."""
    num_pos: Tensor
    """Persons in the batch, float32 scalar."""
    num_dropped: Tensor
    """Annotations without a target, float32 scalar."""
    dense_keypoints: DenseKeypoints | None = None
    counted: Tensor | None = None
    """(B, C, H, W) bool, cells of the heatmap that count; None without ignored regions."""
    keypoint_counted: Tensor | None = None
    """(B, K, H, W) bool, the same for the heatmap of the keypoints."""
    weights: Tensor | None = None
    """(B, M) factors of the persons' costs; None without."""


class CenterTrackTargets(NamedTuple):
    """Row m of image b is its annotation m; rows where ``mask`` is false are zero."""

    heatmap: Splats
    index: Tensor  # type: ignore[assignment]  # replaces tuple.index
    """(B, M) int64 cell of the centre, y * W + x."""
    labels: Tensor
    """(B, M) int64."""
    size: Tensor
    """(B, M, 2) width and height of the clipped box."""
    offset: Tensor
    """(B, M, 2) centre minus integer cell."""
    tracking: Tensor
    """(B, M, 2) centre in the previous frame minus integer cell; zero where it is unknown."""
    ltrb_amodal: Tensor
    """(B, M, 4) edges of the unclipped box minus integer cell."""
    ltrb: Tensor
    """(B, M, 4) edges of the clipped box minus integer cell."""
    mask: Tensor
    """(B, M) bool."""
    tracking_mask: Tensor
    """(B, M) bool: ``mask``, and the object is in the previous frame."""
    ignore: Tensor | None
    """(B, C, H, W) bool, cells that are not negatives; None without ignored regions."""
    num_pos: Tensor
    """Objects in the batch, float32 scalar."""
    num_dropped: Tensor
    """Annotations without a target that are not ignored regions, float32 scalar."""
    pose: CenterNetPoseTargets | None = None
    """Keypoints of the same rows; None without pose branches."""
    weights: Tensor | None = None
    """(B, M) factors of the objects' costs; None without."""


CenterOutputsT = TypeVar(
    'CenterOutputsT', bound=CenterNetPointsOutputs | CenterNetPoseOutputs | CenterTrackOutputs
)
CenterTargetsT = TypeVar(
    'CenterTargetsT', bound=CenterNetPointsTargets | CenterNetPoseTargets | CenterTrackTargets
)
