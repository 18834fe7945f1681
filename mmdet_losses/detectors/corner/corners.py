"""What the encoders of the corner family share: usable objects, keypoint targets, pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core import (
    Detections,
    Ignored,
    IgnoredRegions,
    PaddedInstances,
    Size,
    TargetEncoder,
    counted_cells,
    ideal_logits,
    keep_first,
    largest_sides,
    pad_ignored,
    pad_instances,
    weigh_cells,
)
from mmdet_losses.detectors.corner.contracts import (
    CornerNetTargets,
    CornerOutputsT,
    CornerTargetsT,
    Keypoint,
    KeypointTarget,
)
from mmdet_losses.detectors.corner.decode import CornerPairs, Pairing, concat_views, pair_corners
from mmdet_losses.detectors.corner.views import InputView
from mmdet_losses.ops import (
    BoxRule,
    Splats,
    box_size,
    largest_radius,
    outside_windows,
    scale_boxes,
    scatter_cells,
    splat_gaussians,
    window_radii,
    zero_unless,
)


class Objects(NamedTuple):
    """The usable ground truth of a batch, in input pixels and in cells."""

    boxes: Tensor
    """(B, M, 4) float32 xyxy, clipped to the last pixel of the input."""
    given: PaddedInstances
    labels: Tensor
    """(B, M) int64, 0 where not usable."""
    usable: Tensor
    """(B, M) bool: finite, not empty after the clip, label known."""
    size: Tensor
    """(B, M, 2) width and height of the clipped boxes."""
    radius: Tensor
    """(B, M) half width of the Gaussian windows in cells."""
    sigma: Tensor
    """(B, M) standard deviations of windows of six of them."""
    scale: tuple[float, float]
    """Cells per pixel along x and y, float64."""
    feat_size: Size
    img_size: Size
    ignored: IgnoredRegions | None
    weights: Tensor | None
    """(B, M) factors of the objects' costs."""

    def inside(self) -> Tensor:
        """(B, M) share of each box's area that is left after the clip, 0 if not usable."""
        area, given = (each.prod(-1) for each in (self.size, box_size(self.given.boxes)))
        return zero_unless(self.usable, area / given)


class Points(NamedTuple):
    """K points of each object on the map."""

    cells: Tensor
    """(K, B, M, 2) int64 x, y."""
    index: Tensor  # type: ignore[assignment]  # replaces tuple.index
    """(K, B, M) int64, y * W + x."""
    offset: Tensor
    """(K, B, M, 2) float32, point minus cell."""

    def where(self, mask: Tensor) -> Points:
        """Indices and offsets of the objects in ``mask`` (B, M), zero for the others."""
        index, offset = zero_unless(mask, self.index), zero_unless(mask[..., None], self.offset)
        return self._replace(index=index, offset=offset)


class CornerTargetEncoder(TargetEncoder[CornerOutputsT, CornerTargetsT]):
    """Base of the family's encoders; see ``CornerNetTargetEncoder`` for the arguments."""

    default_radius: dict

    def __init__(
        self,
        num_classes: int,
        max_objects: int = 128,
        radius: dict | int | None = None,
        topk: int = 100,
        num_dets: int = 1000,
        ae_threshold: float = 0.5,
        peak_kernel: int = 3,
        no_border: bool = False,
    ) -> None:
        self.num_classes, self.max_objects, self.topk = num_classes, max_objects, topk
        if not isinstance(radius, int):
            radius = {**self.default_radius, **(radius or {})}
        self.radius = radius
        self.pairing = Pairing(topk, num_dets, ae_threshold, peak_kernel, no_border)

    def feat_sizes(self, outputs: CornerOutputsT) -> list[Size]:
        """(H, W) of the heatmaps."""
        height, width = outputs.tl.heatmap.shape[-2:]
        return [(height, width)]

    def find_objects(
        self,
        gt_instances: Sequence[InstanceData],
        feat_size: Size,
        img_size: Size,
        ignored: Ignored = None,
    ) -> Objects:
        """Clip the boxes, mark those that can have a target, and compute their radii."""
        padded = pad_instances(gt_instances)
        last = img_size[1] - 1, img_size[0] - 1
        rule = BoxRule(last, largest_sides(img_size), 'clip', fill=(0.0, 0.0))
        boxes, labels, usable = padded.usable(self.num_classes, rule)
        size = box_size(boxes)
        scale = feat_size[1] / img_size[1], feat_size[0] / img_size[0]
        if isinstance(self.radius, int):
            radius = boxes.new_full(usable.shape, self.radius)
            sigma = (radius + 0.5) / 3
        else:
            radius, sigma = window_radii(size, scale=scale, **self.radius)
        return Objects(
            boxes=boxes,
            given=padded,
            labels=labels,
            usable=usable,
            size=size,
            radius=radius,
            sigma=sigma,
            scale=scale,
            feat_size=feat_size,
            img_size=img_size,
            ignored=pad_ignored(ignored, img_size),
            weights=padded.weights,
        )

    def corners(self, objects: Objects, chosen: Tensor, points: Points) -> CornerNetTargets:
        """Targets of both corners for the first chosen (B, M) objects."""
        mask, num_pos, dropped = self.kept(objects, chosen)
        tl, br = self.keypoints(points, objects, mask)
        return CornerNetTargets(
            tl, br, mask=mask, num_pos=num_pos, num_dropped=dropped, weights=objects.weights
        )

    def kept(self, objects: Objects, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The first chosen (B, M) objects as a mask, their number, and that of dropped objects."""
        mask = keep_first(chosen, self.max_objects)
        num_pos = mask.sum(dtype=torch.float32)
        dropped = objects.given.count - num_pos
        if chosen is not objects.usable:
            dropped = dropped - (objects.usable & ~chosen).sum()
        return mask, num_pos, dropped

    @staticmethod
    def points(objects: Objects, xy: Tensor | None = None) -> Points:
        """K points (B, M, K, 2) in pixels of each object; by default its two corners."""
        xy = objects.boxes.unflatten(-1, (2, 2)) if xy is None else xy
        pixels = xy.movedim(2, 0).to(torch.float64, memory_format=torch.contiguous_format)
        exact = scale_boxes(pixels, *objects.scale)
        floor = exact.floor()
        cells = floor.long()
        index = cells[..., 1] * objects.feat_size[1] + cells[..., 0]
        return Points(cells, index, (exact - floor).float())

    def keypoints(
        self,
        points: Points,
        objects: Objects,
        mask: Tensor,
        windows_per_sigma: Sequence[float] = (6.0, 6.0),
    ) -> list[KeypointTarget]:
        """Heatmap, cell index and offset of K points of the objects in ``mask`` (B, M)."""
        points = points.where(mask)
        targets = []
        for cells, index, offset, window in zip(*points, windows_per_sigma, strict=True):
            sigma = objects.sigma if window == 6 else (objects.radius + 0.5) / (window / 2)
            heatmap: Splats = splat_gaussians(*self._windows(cells, sigma, objects, mask))
            counted = weigh_cells(
                counted_cells(heatmap, objects.ignored, objects.img_size),
                *(objects.weights, objects.labels, index, mask, heatmap.shape),
            )
            targets.append(KeypointTarget(heatmap, index, offset, counted))
        return targets

    def outside(self, points: Points, objects: Objects, mask: Tensor) -> list[Tensor]:
        """Cells (B, C, H, W) outside the windows of the objects in ``mask``, of each point."""
        return [
            outside_windows(*self._windows(cells, objects.sigma, objects, mask))
            for cells in points.cells
        ]

    def _windows(self, cells: Tensor, sigma: Tensor, objects: Objects, mask: Tensor) -> tuple:
        """Arguments of :func:`~mmdet_losses.ops.gaussian.splat_gaussians`."""
        size, largest = objects.feat_size, self.radius
        if not isinstance(largest, int):
            largest = largest_radius(*size, **largest)
        maps = (self.num_classes, *size)
        return cells, objects.radius, sigma, objects.labels, mask, maps, largest

    def decode(self, outputs: CornerOutputsT, img_size: Size) -> list[InstanceData]:
        """Pairs of corners by descending score, clipped to the input, without rejected pairs.

        Beside ``bboxes, scores, labels`` the instances have the corners' ``tl_scores, br_scores``,
        which merging detections of several views needs.
        """
        return self.decode_views([outputs], [InputView(img_size)])

    def decode_views(
        self, outputs: Sequence[CornerOutputsT], views: Sequence[InputView]
    ) -> list[InstanceData]:
        """Detections of several views (mirrored, resized) of the same images, view after view.

        Boxes are in pixels of the original images.
        """
        return self.pairs_of_views(outputs, views).instances()

    def decode_tensors(
        self, outputs: CornerOutputsT, img_size: Size, limit: int = 1000
    ) -> Detections:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`; at most ``num_dets`` pairs."""
        pairs = self.pairs_of_views([outputs], [InputView(img_size)])
        boxes, scores, labels = pairs.boxes, pairs.scores.clamp(min=0), pairs.labels
        return Detections(boxes[:, :limit], scores[:, :limit], labels[:, :limit])

    def pairs_of_views(
        self, outputs: Sequence[CornerOutputsT], views: Sequence[InputView]
    ) -> CornerPairs:
        """Pairs of several views of the same images, view after view."""
        return concat_views([self.pairs(*each) for each in zip(outputs, views, strict=True)])

    def pairs(self, outputs: CornerOutputsT, view: InputView) -> CornerPairs:
        """Pairs of corners of one view, boxes in image pixels."""
        pairs = pair_corners(outputs.tl, outputs.br, self.pairing)
        [size] = self.feat_sizes(outputs)[:1]
        return pairs._replace(boxes=view.to_image(pairs.boxes, size))

    def ideal_corners(self, targets: CornerTargetsT) -> tuple[Keypoint, Keypoint]:
        """Logits of the heatmaps, offsets at the corners, and embeddings at least 1 apart."""
        mask, size = targets.mask, targets.tl.heatmap.shape[-2:]
        order = torch.arange(1, mask.shape[1] + 1, device=mask.device)
        embedding = order * max(1.0, 2 * self.pairing.ae_threshold)
        embedding = embedding.expand(mask.shape)[..., None]
        tl, br = (
            Keypoint(
                heatmap=ideal_logits(point.heatmap),
                embedding=scatter_cells(embedding, point.index, mask, size),
                offset=scatter_cells(point.offset, point.index, mask, size),
            )
            for point in (targets.tl, targets.br)
        )
        return tl, br
