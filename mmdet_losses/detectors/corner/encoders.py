"""Target encoders of the corner family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core import Size, TargetEncoder, keep_first, pad_instances
from mmdet_losses.detectors.corner.contracts import (
    CenterNetTripletOutputs,
    CenterNetTripletTargets,
    CornerNetOutputs,
    CornerNetTargets,
)
from mmdet_losses.detectors.corner.decode import (
    Centers,
    CornerPairs,
    pair_corners,
    pool,
    reject_outside,
    top_centers,
    verify_centers,
)
from mmdet_losses.detectors.corner.views import View
from mmdet_losses.ops import (
    Splats,
    box_center,
    box_size,
    clip_boxes,
    gaussian_radius,
    is_proper,
    largest_radius,
    scale_boxes,
    scatter_cells,
    splat_gaussians,
)
from mmdet_losses.registry import TASK_UTILS


class Objects(NamedTuple):
    """The usable ground truth of a batch, in input pixels and in cells."""

    boxes: Tensor
    """(B, M, 4) float32 xyxy, clipped to the last pixel of the input."""
    labels: Tensor
    """(B, M) int64."""
    usable: Tensor
    """(B, M) bool: finite, not empty after the clip, label known."""
    inside: Tensor
    """(B, M) share of each box's area that the clip left."""
    dropped: Tensor
    """Annotations that are not usable, float32 scalar."""
    radius: Tensor
    """(B, M) half width of the Gaussian windows in cells."""
    scale: tuple[float, float]
    """Cells a pixel along x and y, float64."""
    feat_size: Size


@TASK_UTILS.register_module()
class CornerNetTargetEncoder(TargetEncoder[CornerNetOutputs, CornerNetTargets]):
    r"""An object as its top-left and bottom-right corner, joined by equal tags.

    A Gaussian at each corner's cell, the sub-cell offset beside it, the same embedding at both.
    Law and Deng, *CornerNet: Detecting Objects as Paired Keypoints*, section 3.

    Convention:
        Boxes are clipped to [0, w - 1] x [0, h - 1]. Cells are the integer part of pixels times
        map size / input size (128/511, not 1/4), computed in float64 as the official code did.
        The radius is that of the box in cells, sides rounded up. Objects with a corner in one
        cell share its tag and offset: of these, one is decoded.

    Args:
        num_classes: C.
        max_objects: the first so many usable annotations of an image get a target.
        radius: ``dict(mode='fixed' | 'legacy', min_overlap=...)``, or a whole number of cells for
            every object (0 writes single ones). Default: the detector's own.
        topk: corners of each kind that are paired; any number from 1.
        num_dets: pairs an image before post-processing.
        ae_threshold: tags further apart than this are not a pair.
        peak_kernel: odd window in which a corner must be the maximum; 1 keeps every cell.
        no_border: drop pairs whose top-left cell is in the first row or column, or whose
            bottom-right cell is in the last.
    """

    outputs_type: type = CornerNetOutputs
    default_radius: dict = {'mode': 'fixed', 'min_overlap': 0.3}

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
        self.num_classes, self.max_objects = num_classes, max_objects
        if not isinstance(radius, int):
            radius = {**self.default_radius, **(radius or {})}
        self.radius = radius
        self.topk, self.peak_kernel, self.ae_threshold = topk, peak_kernel, ae_threshold
        self.pairing = dict(
            topk=topk,
            num_dets=num_dets,
            ae_threshold=ae_threshold,
            peak_kernel=peak_kernel,
            no_border=no_border,
        )

    def encode(
        self, gt_instances: Sequence[InstanceData], feat_sizes: Sequence[Size], img_size: Size
    ) -> CornerNetTargets:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`; inputs are not modified."""
        objects = self._objects(gt_instances, feat_sizes[0], img_size)
        return CornerNetTargets(**self._corners(objects, objects.usable))

    def _objects(
        self, gt_instances: Sequence[InstanceData], feat_size: Size, img_size: Size
    ) -> Objects:
        padded = pad_instances(gt_instances)
        boxes = clip_boxes(padded.boxes, img_size[1] - 1, img_size[0] - 1)
        usable = padded.real & is_proper(padded.boxes) & is_proper(boxes)
        usable = usable & (padded.labels >= 0) & (padded.labels < self.num_classes)
        area = box_size(padded.boxes).prod(-1)
        boxes = torch.where(usable[..., None], boxes, 0)
        scale = feat_size[1] / img_size[1], feat_size[0] / img_size[0]
        if isinstance(self.radius, int):
            radius = boxes.new_full(usable.shape, self.radius)
        else:
            width, height = scale_boxes(box_size(boxes).double(), *scale).ceil().unbind(-1)
            radius = gaussian_radius(height, width, **self.radius).floor()
        return Objects(
            boxes=boxes,
            labels=torch.where(usable, padded.labels, 0),
            usable=usable,
            inside=torch.where(usable, box_size(boxes).prod(-1) / area, 0),
            dropped=(padded.real.sum() - usable.sum()).float(),
            radius=radius,
            scale=scale,
            feat_size=feat_size,
        )

    def _corners(self, objects: Objects, chosen: Tensor) -> dict[str, Splats | Tensor]:
        """Fields of both corners for the first chosen (B, M) objects, and the counts."""
        mask = keep_first(chosen, self.max_objects)
        num_pos = mask.sum().float()
        return dict(
            self._point('tl', objects.boxes[..., :2], objects, mask),
            **self._point('br', objects.boxes[..., 2:], objects, mask),
            mask=mask,
            num_pos=num_pos,
            num_dropped=objects.dropped + chosen.sum() - num_pos,
        )

    def _point(
        self, name: str, xy: Tensor, objects: Objects, mask: Tensor, spread: float = 6.0
    ) -> dict[str, Splats | Tensor]:
        """Heatmap, cell index and offset of one point (B, M, 2) in pixels of each object.

        ``spread``: windows a standard deviation.
        """
        exact = scale_boxes(xy.double(), *objects.scale)
        exact = torch.where(mask[..., None], exact, 0)
        cell = exact.floor()
        xy = cell.long()
        return {
            f'{name}_heatmap': self._splat(xy, objects, mask, spread),
            f'{name}_index': xy[..., 1] * objects.feat_size[1] + xy[..., 0],
            f'{name}_offset': (exact - cell).float(),
        }

    def _splat(self, xy: Tensor, objects: Objects, mask: Tensor, spread: float = 6.0) -> Splats:
        size = objects.feat_size
        largest = self.radius
        if not isinstance(largest, int):
            largest = largest_radius(*size, **self.radius)
        sigma = (2 * objects.radius + 1) / spread
        shape = (self.num_classes, *size)
        return splat_gaussians(xy, objects.radius, sigma, objects.labels, mask, shape, largest)

    def decode(self, outputs: CornerNetOutputs, img_size: Size) -> list[InstanceData]:
        """Pairs of corners by descending score, clipped to the input; rejected ones left out.

        Beside ``bboxes, scores, labels`` the instances carry both corners' ``tl_scores,
        br_scores``, which merging detections of several views needs.
        """
        return self.decode_views([outputs], [View(img_size)])

    def decode_views(
        self, outputs: Sequence[CornerNetOutputs], views: Sequence[View]
    ) -> list[InstanceData]:
        """Pool what the network said of several views (mirrored, resized) of the same images.

        Boxes are in pixels of the original images; the views' detections follow one another.
        """
        return pool([self.pairs(*each) for each in zip(outputs, views)]).instances()

    def pairs(self, outputs: CornerNetOutputs, view: View) -> CornerPairs:
        """Pairs of corners of one view, boxes in image pixels."""
        pairs = pair_corners(outputs, **self.pairing)
        return pairs._replace(boxes=view.to_image(pairs.boxes, outputs.tl_heatmap.shape[-2:]))

    def ideal_outputs(self, targets: CornerNetTargets) -> CornerNetOutputs:
        """Logits of the heatmaps, offsets at the corners, and tags one apart or more."""
        return CornerNetOutputs(**self._ideal(targets))

    def _ideal(self, targets: CornerNetTargets, points: Sequence[str] = ('tl', 'br')) -> dict:
        size, mask = targets.tl_heatmap.shape[-2:], targets.mask
        order = torch.arange(1, mask.shape[1] + 1, device=mask.device)
        tags = (order * max(1.0, 2 * self.ae_threshold)).expand(mask.shape)[..., None]
        fields = {}
        for point in points:
            index = getattr(targets, f'{point}_index')
            heatmap, offset = (
                getattr(targets, f'{point}_{name}') for name in ('heatmap', 'offset')
            )
            fields[f'{point}_heatmap'] = torch.logit(heatmap.dense(), eps=1e-6)
            fields[f'{point}_offset'] = scatter_cells(offset, index, mask, size)
            if point != 'center':
                fields[f'{point}_embedding'] = scatter_cells(tags, index, mask, size)
        return fields


@TASK_UTILS.register_module()
class CenterNetTripletTargetEncoder(CornerNetTargetEncoder):
    r"""Two corners, and the centre that must confirm them.

    Duan et al., *CenterNet: Keypoint Triplets for Object Detection*, section 3.

    Convention:
        As :class:`CornerNetTargetEncoder`, with the legacy radius formula at an IoU of 0.7. The
        centre's Gaussian has the corners' window and a standard deviation of a fifth of it, not a
        sixth. Decoding: :func:`~mmdet_losses.detectors.corner.decode.verify_centers`; the area
        that decides about its region is that of the box in input pixels.

    Arguments as in :class:`CornerNetTargetEncoder`; ``topk`` also counts centres.
    """

    outputs_type = CenterNetTripletOutputs
    default_radius = {'mode': 'legacy', 'min_overlap': 0.7}

    def __init__(self, num_classes: int, topk: int = 70, **kwargs: object) -> None:
        super().__init__(num_classes, topk=topk, **kwargs)

    def encode(
        self, gt_instances: Sequence[InstanceData], feat_sizes: Sequence[Size], img_size: Size
    ) -> CenterNetTripletTargets:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`; inputs are not modified."""
        objects = self._objects(gt_instances, feat_sizes[0], img_size)
        corners = self._corners(objects, objects.usable)
        center = self._point('center', box_center(objects.boxes), objects, corners['mask'], 5.0)
        return CenterNetTripletTargets(**corners, **center)

    def decode_views(
        self, outputs: Sequence[CenterNetTripletOutputs], views: Sequence[View]
    ) -> list[InstanceData]:
        """Pairs that a centre confirms, pooled; the centres are those of views at scale 1.

        Without such a view (the official code needs one) the centres of all views count.
        """
        pairs = pool([self.pairs(*each) for each in zip(outputs, views)])
        at_one = [view.scale == (1, 1) for view in views]
        centers = pool(
            [
                self._centers(said, view)
                for said, view in zip(outputs, views)
                if view.scale == (1, 1) or not any(at_one)
            ]
        )
        return verify_centers(pairs, centers).instances()

    def pairs(self, outputs: CenterNetTripletOutputs, view: View) -> CornerPairs:
        """As CornerNet's, without boxes that lie outside the view by 5 pixels or more."""
        pairs = pair_corners(outputs, **self.pairing)
        size = outputs.tl_heatmap.shape[-2:]
        return reject_outside(
            pairs._replace(boxes=view.to_image(pairs.boxes, size)),
            view.shows(pairs.boxes, size, margin=5),
        )

    def _centers(self, outputs: CenterNetTripletOutputs, view: View) -> Centers:
        """Centre candidates of one view, in image pixels."""
        heatmap = outputs.center_heatmap
        centers = top_centers(heatmap, outputs.center_offset, self.topk, self.peak_kernel)
        xy = view.from_resized(view.to_resized(centers.xy, heatmap.shape[-2:]))
        return centers._replace(xy=xy)

    def ideal_outputs(self, targets: CenterNetTripletTargets) -> CenterNetTripletOutputs:
        """As CornerNet's, and logits and offsets of the centres."""
        return CenterNetTripletOutputs(**self._ideal(targets, ('tl', 'br', 'center')))
