"""Objects and where they were one picture ago: the target encoder of CenterTrack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core import Size, TargetEncoder, pad_instances, pad_rows
from mmdet_losses.detectors.center.centers import Pen, as_logits, locate, read_centers
from mmdet_losses.detectors.center.contracts import CenterTrackOutputs, CenterTrackTargets
from mmdet_losses.ops import (
    box_center,
    box_size,
    boxes_around,
    cell_xy,
    clip_boxes,
    draw_gaussians,
    gather_cells,
    is_proper,
    promote,
    scale_boxes,
    scatter_cells,
    suppress_non_peaks,
    top_peaks,
)
from mmdet_losses.registry import TASK_UTILS


class PreviousFrame(NamedTuple):
    """What a batch is told of its previous pictures; P instances, zero where ``mask`` is false."""

    heatmap: Tensor
    """(B, 1, h, w) at the resolution of the network input, an input of the network."""
    centers: Tensor
    """(B, P, 2) in input pixels."""
    ids: Tensor
    """(B, P) int64 identities, -1 where unknown."""
    mask: Tensor
    """(B, P) bool."""


@TASK_UTILS.register_module()
class CenterTrackTargetEncoder(TargetEncoder[CenterTrackOutputs, CenterTrackTargets]):
    r"""CenterNetPoints' targets, the way back to the previous centre, the unclipped edges.

    Zhou, Koltun and Krähenbühl, *Tracking Objects as Points*, sections 4.1 to 4.3.

    In training, before :meth:`encode`, pass the previous picture's ground truth to
    :meth:`encode_previous` and both to :meth:`link`; at test time :meth:`encode_previous` takes
    the tracks instead.

    Convention:
        Fields of the ground truth beside ``bboxes`` and ``labels``, all optional:
        ``instances_ids`` (n,) identities, -1 unknown; ``crowds`` (n,) bool; and, from
        :meth:`link`, ``previous_centers`` (n, 2) in input pixels and ``previous_mask`` (n,).
        A crowd is an ignored region of its class. Negative labels are ignored regions too: -1 of
        all classes, -2 - c of class c. Their cells, both border cells included, are no negatives.

        Boxes are treated as by
        :class:`~mmdet_losses.detectors.center.points_encoder.CenterNetPointsTargetEncoder`
        ('official'). The displacement goes from the *integer* cell of the centre to the previous
        centre with its fraction: an object that stands still has its offset as displacement.

    Args:
        num_classes: C.
        max_objects: the first so many annotations of an image are used, ignored ones included.
        radius: ``dict(mode='fixed' | 'legacy', min_overlap=...)``.
        sigma: draw every Gaussian of the target with this standard deviation instead.
        ignore_regions: false leaves them out (their cells are negatives), which spares a mask of
            the heatmap's size.
        min_track_score: tracks below do not enter the previous heatmap.
        center_noise: standard deviation of a previous centre, in parts of the box (official MOT17
            recipe: 0.05).
        lost_rate: probability that a previous object is not drawn (0.4).
        false_rate: probability that a drawn object gets a false second peak nearby (0.1).
        topk: detections an image before post-processing.
        peak_kernel: odd window in which a peak must be the maximum.
    """

    outputs_type = CenterTrackOutputs

    def __init__(
        self,
        num_classes: int,
        max_objects: int = 128,
        radius: dict | None = None,
        sigma: float | None = None,
        ignore_regions: bool = True,
        min_track_score: float = 0.5,
        center_noise: float = 0.0,
        lost_rate: float = 0.0,
        false_rate: float = 0.0,
        topk: int = 100,
        peak_kernel: int = 3,
    ) -> None:
        self.num_classes, self.max_objects = num_classes, max_objects
        self.pen = Pen({'mode': 'legacy', 'min_overlap': 0.7, **(radius or {})}, sigma=sigma)
        self.ignore_regions, self.min_track_score = ignore_regions, min_track_score
        self.center_noise, self.lost_rate, self.false_rate = center_noise, lost_rate, false_rate
        self.topk, self.peak_kernel = topk, peak_kernel

    def encode(
        self, gt_instances: Sequence[InstanceData], feat_sizes: Sequence[Size], img_size: Size
    ) -> CenterTrackTargets:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`; inputs are not modified."""
        height, width = feat_sizes[0]
        scale = width / img_size[1], height / img_size[0]
        padded = pad_instances(gt_instances, self.max_objects)
        slots = padded.real.shape[1]
        whole = scale_boxes(padded.boxes, *scale)
        boxes = clip_boxes(whole, width - 1, height - 1)
        ignored = (padded.labels < 0) | _field(gt_instances, 'crowds', slots, dtype=torch.bool)
        valid = padded.real & ~ignored & is_proper(whole)
        found = locate(boxes, padded.labels, valid, self.num_classes, (height, width))
        kept, twice = found.mask[..., None], found.xy.repeat(1, 1, 2)
        shape = (self.num_classes, height, width)
        linked = found.mask & _field(gt_instances, 'previous_mask', slots, dtype=torch.bool)
        previous = _field(gt_instances, 'previous_centers', slots, shape=(2,))
        previous = scale_boxes(previous, *scale) - found.xy
        ignore = None
        if self.ignore_regions:
            regions = padded.real & ignored & boxes.isfinite().all(-1)
            ignore = self._ignore(boxes, padded.labels, regions, (height, width))
        num_pos = found.mask.sum().float()
        return CenterTrackTargets(
            heatmap=self.pen.draw(found.xy, found.size, found.labels, found.mask, shape),
            index=found.index,
            labels=found.labels,
            size=found.size,
            offset=found.offset,
            tracking=torch.where(linked[..., None], previous, 0),
            ltrb_amodal=torch.where(kept, whole - twice, 0),
            ltrb=torch.where(kept, boxes - twice, 0),
            mask=found.mask,
            tracking_mask=linked,
            ignore=ignore,
            num_pos=num_pos,
            num_dropped=(padded.real & ~ignored).sum() + padded.left_out - num_pos,
        )

    def _ignore(self, boxes: Tensor, labels: Tensor, regions: Tensor, feat_size: Size) -> Tensor:
        """(B, C, H, W) bool: cells of the regions (B, M), from clipped boxes in cells."""
        low, high = boxes.floor()[..., :2, None], boxes.floor()[..., 2:, None]
        column, row = (torch.arange(side, device=boxes.device) for side in feat_size[::-1])
        columns = (column >= low[..., 0, :]) & (column <= high[..., 0, :])
        rows = (row >= low[..., 1, :]) & (row <= high[..., 1, :]) & regions[..., None]
        own = torch.where(labels < -1, -2 - labels, labels)
        classes = torch.arange(self.num_classes, device=boxes.device)
        classes = (own[..., None] == classes) | (labels == -1)[..., None]
        parts = (each.float() for each in (classes, rows, columns))
        return torch.einsum('bmc,bmh,bmw->bchw', *parts) > 0

    def encode_previous(
        self,
        previous: Sequence[InstanceData],
        img_size: Size,
        generator: torch.Generator | None = None,
    ) -> PreviousFrame:
        """The network's extra input, from the previous ground truth or from live tracks.

        Args:
            previous: one an image, boxes in pixels of the network input; with ``labels``, those of
                C and above are left out, ignored ones stay. ``crowds`` are left out. Of tracks,
                which have ``scores`` or ``active``, those below ``min_track_score`` or with
                ``active`` 0 are.
            img_size: (h, w) of the network input.
            generator: draws the disturbances of the training recipe, on the device of the boxes;
                without one nothing is disturbed.

        Convention:
            All classes share one channel. Centre, size and radius are those of the box clipped to
            the input (``w - 1``). A lost object is not drawn, and its noisy centre is what it is
            linked to; a kept one is drawn at its noisy centre and linked to the true one.
        """
        padded = pad_instances(previous)
        slots = padded.real.shape[1]
        centers, size = clipped_centers(padded.boxes, img_size)
        mask = padded.real & is_proper(padded.boxes) & (size > 0).all(-1)
        mask = mask & (padded.labels < self.num_classes)
        mask = mask & ~_field(previous, 'crowds', slots, dtype=torch.bool)
        mask = mask & (_field(previous, 'scores', slots, default=1) >= self.min_track_score)
        mask = mask & (_field(previous, 'active', slots, default=1) > 0)
        centers, size = (
            torch.where(mask[..., None], centers, 0),
            torch.where(mask[..., None], size, 0),
        )
        drawn, peaks = mask, centers
        if generator is not None:
            peaks = centers + self._noise(size, self.center_noise, generator)
            lost = self._chance(mask, self.lost_rate, generator)
            false = self._chance(mask, self.false_rate, generator) & ~lost
            second = centers + self._noise(size, FALSE_PEAK_NOISE, generator)
            centers = torch.where(lost[..., None], peaks, centers)
            drawn = torch.cat((mask & ~lost, mask & false), 1)
            peaks, size = torch.cat((peaks, second), 1), size.repeat(1, 2, 1)
        radius, sigma = self.pen._replace(sigma=None).radii(size)
        heatmap = draw_gaussians(peaks.long(), radius, sigma, drawn, img_size)
        ids = _field(previous, 'instances_ids', slots, -1, torch.int64)
        return PreviousFrame(heatmap[:, None], centers, torch.where(mask, ids, -1), mask)

    @staticmethod
    def _noise(size: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
        return size * deviation * torch.randn(size.shape, generator=generator, device=size.device)

    @staticmethod
    def _chance(mask: Tensor, rate: float, generator: torch.Generator) -> Tensor:
        return torch.rand(mask.shape, generator=generator, device=mask.device) < rate

    def link(
        self, gt_instances: Sequence[InstanceData], previous: PreviousFrame
    ) -> list[InstanceData]:
        """Ground truth with the fields ``previous_centers`` and ``previous_mask``, by identity.

        The first of several previous instances with one identity counts. Inputs are not modified.
        """
        linked = []
        for instances, centers, ids, mask in zip(
            gt_instances, previous.centers, previous.ids, previous.mask, strict=True
        ):
            own = instances.instances_ids[:, None]
            same = (own == ids) & mask & (own >= 0)
            first = same.int().argmax(1)
            instances = instances[:]
            instances.previous_centers, instances.previous_mask = centers[first], same.any(1)
            linked.append(instances)
        return linked

    def decode(self, outputs: CenterTrackOutputs, img_size: Size) -> list[InstanceData]:
        """The ``topk`` best peaks by descending score, with ``centers`` and ``tracking`` (n, 2).

        Convention:
            Negative sizes count as zero. Edges, where the network has them, replace the box made
            of size and offset, unclipped ones first. ``centers`` are *integer* cells and
            ``tracking`` starts there, so that their sum is the previous centre.
        """
        heatmap = promote(outputs.heatmap).sigmoid()
        height, width = heatmap.shape[-2:]
        peaks = top_peaks(suppress_non_peaks(heatmap, self.peak_kernel), self.topk)
        cell = cell_xy(peaks.index, width).to(heatmap)
        edges = outputs.ltrb if outputs.ltrb_amodal is None else outputs.ltrb_amodal
        if edges is not None:
            boxes = cell.repeat(1, 1, 2) + gather_cells(promote(edges), peaks.index)
        else:
            size = gather_cells(promote(outputs.size), peaks.index).clamp(min=0)
            boxes = boxes_around(read_centers(outputs.offset, peaks.index, width), size)
        scale = img_size[1] / width, img_size[0] / height
        columns = {
            'bboxes': scale_boxes(boxes, *scale),
            'scores': peaks.scores,
            'labels': peaks.labels,
            'centers': scale_boxes(cell, *scale),
        }
        if outputs.tracking is not None:
            way = gather_cells(promote(outputs.tracking), peaks.index)
            columns['tracking'] = scale_boxes(way, *scale)
        return [
            InstanceData(**{name: column[image] for name, column in columns.items()})
            for image in range(len(heatmap))
        ]

    def ideal_outputs(self, targets: CenterTrackTargets) -> CenterTrackOutputs:
        """Logits of the target heatmap, everything else at the centres."""
        feat_size = targets.heatmap.shape[-2:]

        def at_centers(values: Tensor) -> Tensor:
            return scatter_cells(values, targets.index, targets.mask, feat_size)

        return CenterTrackOutputs(
            heatmap=as_logits(targets.heatmap.dense()),
            size=at_centers(targets.size),
            offset=at_centers(targets.offset),
            tracking=at_centers(targets.tracking),
            ltrb_amodal=at_centers(targets.ltrb_amodal),
            ltrb=at_centers(targets.ltrb),
        )


FALSE_PEAK_NOISE = 0.05
"""Standard deviation of a false peak's place in parts of the box, as in the official code."""


def clipped_centers(boxes: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """Centres and sizes (..., 2) of boxes clipped to the last pixel of a (h, w) picture."""
    boxes = clip_boxes(boxes, size[1] - 1, size[0] - 1)
    return box_center(boxes), box_size(boxes)


def _field(
    instances: Sequence[InstanceData],
    name: str,
    slots: int,
    default: float = 0,
    dtype: torch.dtype = torch.float32,
    shape: tuple[int, ...] = (),
) -> Tensor:
    """An optional field as (B, slots, *shape); ``default`` where an image lacks it."""
    rows = [
        each[name].to(dtype)
        if name in each
        else each.labels.new_full((len(each), *shape), default, dtype=dtype)
        for each in instances
    ]
    return pad_rows(rows, slots)
