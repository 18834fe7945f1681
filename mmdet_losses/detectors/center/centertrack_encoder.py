"""Target encoder of CenterTrack: objects as points, and their displacements between frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core import (
    Ignored,
    IgnoredRegions,
    Size,
    ideal_logits,
    pad_ignored,
    pad_instances,
    pad_rows,
    split_images,
)
from mmdet_losses.detectors.center.centernet_pose_encoder import CenterNetPoseTargetEncoder
from mmdet_losses.detectors.center.centers import CenterTargetEncoder, GaussianRule, read_centers
from mmdet_losses.detectors.center.contracts import (
    CenterNetPoseTargets,
    CenterTrackOutputs,
    CenterTrackTargets,
)
from mmdet_losses.ops import (
    Peaks,
    box_center,
    box_size,
    boxes_around,
    cell_xy,
    clip_boxes,
    constant,
    draw_gaussians,
    find_peaks,
    gather_cells,
    is_proper,
    promote,
    scale_boxes,
    scatter_cells,
    zero_unless,
)
from mmdet_losses.registry import TASK_UTILS

FALSE_PEAK_NOISE = 0.05
"""Standard deviation of a false peak's position, as a share of the box, as in the official code."""


class PreviousFrame(NamedTuple):
    """Objects of the previous frames of a batch; P instances, zero where ``mask`` is false."""

    heatmap: Tensor
    """(B, 1, h, w), an input of the network, of the same size as the image."""
    centers: Tensor
    """(B, P, 2) in input pixels."""
    ids: Tensor
    """(B, P) int64 identities, -1 where unknown."""
    mask: Tensor
    """(B, P) bool."""


@TASK_UTILS.register_module()
class CenterTrackTargetEncoder(CenterTargetEncoder[CenterTrackOutputs, CenterTrackTargets]):
    r"""CenterNetPoints' targets, displacements to the previous centres, unclipped edges.

    Zhou, Koltun and Krähenbühl, *Tracking Objects as Points*, sections 4.1 to 4.3.

    In training, before :meth:`encode`, pass the previous frame's ground truth to
    :meth:`encode_previous` and both to :meth:`link`. At test time :meth:`encode_previous` takes
    the tracks.

    Convention:
        Further fields of the ground truth, all optional: ``instances_ids`` (n,) identities, -1
        unknown; ``crowds`` (n,) bool; and, from :meth:`link`, ``previous_centers`` (n, 2) in
        input pixels and ``previous_mask`` (n,). A crowd is an ignored region of its class.
        Negative labels are ignored regions too: -1 of all classes, -2 - c of class c. Their
        cells, border cells included, are not negatives.

        Boxes are treated as by ``CenterNetPointsTargetEncoder`` ('official'). The displacement
        starts at the *integer* cell of the centre and ends at the previous centre with its
        fraction, so the displacement of an object at rest is its offset.

    Args:
        num_classes: C.
        max_objects: number of annotations per image that are used, the first ones, ignored ones
            included.
        radius: ``dict(mode='fixed' | 'legacy', min_overlap=...)``.
        sigma: standard deviation of every Gaussian of the target; ``None`` computes it from the
            object's size.
        ignore_regions: false makes the cells of ignored regions negatives, which saves a mask of
            the heatmap's size.
        min_track_score: tracks with a lower score are not drawn in the previous heatmap.
        center_noise: standard deviation of the noise of a previous centre, as a share of the box
            (official MOT17 recipe: 0.05).
        lost_rate: probability that a previous object is not drawn (0.4).
        false_rate: probability that a drawn object gets a false second peak nearby (0.1).
        topk: detections per image before post-processing.
        peak_kernel: odd window in which a peak must be the maximum.
        pose: for a network with keypoints, arguments of ``CenterNetPoseTargetEncoder`` beside
            those above; the ground truth then needs its fields. The official code has
            ``dict(num_keypoints=17, min_keypoint_score=0.2, snap_reach=math.inf)``.

    Encoded:
        :class:`~mmdet_losses.detectors.center.contracts.CenterTrackTargets`.
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
        pose: dict | None = None,
    ) -> None:
        gaussians = GaussianRule.legacy(radius, sigma)
        super().__init__(num_classes, max_objects, gaussians, topk, peak_kernel)
        self.pose = None
        if pose is not None:
            common: dict = dict(num_classes=num_classes, max_objects=max_objects, radius=radius)
            common |= dict(sigma=sigma, topk=topk, peak_kernel=peak_kernel)
            self.pose = CenterNetPoseTargetEncoder(**common, **pose)
        self.ignore_regions, self.min_track_score = ignore_regions, min_track_score
        self.center_noise, self.lost_rate, self.false_rate = center_noise, lost_rate, false_rate

    def encode(
        self,
        gt_instances: Sequence[InstanceData],
        feat_sizes: Sequence[Size],
        img_size: Size,
        ignored: Ignored = None,
    ) -> CenterTrackTargets:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`; inputs are not modified."""
        height, width = feat_size = feat_sizes[0]
        scale = width / img_size[1], height / img_size[0]
        padded = pad_instances(gt_instances, self.max_objects)
        slots = padded.real.shape[1]
        hidden = (padded.labels < 0) | _field(gt_instances, 'crowds', slots, dtype=torch.bool)
        objects = padded._replace(real=padded.real & ~hidden)
        found = self.locate(objects, feat_size, img_size)
        linked = found.mask & _field(gt_instances, 'previous_mask', slots, dtype=torch.bool)
        previous = _field(gt_instances, 'previous_centers', slots, shape=(2,))
        linked = linked & previous.isfinite().all(-1)
        previous = scale_boxes(previous, *scale) - found.xy
        origin = found.xy.repeat(1, 1, 2)
        edges, amodal_edges = (
            zero_unless(found.mask[..., None], boxes - origin)
            for boxes in (found.boxes, scale_boxes(padded.boxes, *scale))
        )
        ignore = None
        if self.ignore_regions:
            own = padded.real & hidden & padded.boxes.isfinite().all(-1)
            regions = IgnoredRegions(padded.boxes, padded.labels, own)
            more = pad_ignored(ignored, img_size)
            if more is not None:
                regions = IgnoredRegions(
                    *(torch.cat(pair, 1) for pair in zip(regions, more, strict=True))
                )
            ignore = regions.cells(feat_size, img_size, self.num_classes)
        num_pos = found.mask.sum(dtype=torch.float32)
        return CenterTrackTargets(
            heatmap=self.draw_centers(found, feat_size),
            index=found.index,
            labels=found.labels,
            size=found.size,
            offset=found.offset,
            tracking=zero_unless(linked[..., None], previous),
            ltrb_amodal=amodal_edges,
            ltrb=edges,
            mask=found.mask,
            tracking_mask=linked,
            ignore=ignore,
            num_pos=num_pos,
            num_dropped=objects.real.sum() + padded.left_out - num_pos,
            pose=self._encode_pose(gt_instances, feat_sizes, img_size, ignored),
            weights=padded.weights,
        )

    def _encode_pose(
        self,
        gt_instances: Sequence[InstanceData],
        feat_sizes: Sequence[Size],
        img_size: Size,
        ignored: Ignored,
    ) -> CenterNetPoseTargets | None:
        """Targets of the keypoints; those of crowds have none."""
        if self.pose is None:
            return None
        persons = [each[:] for each in gt_instances]
        for each in persons:
            if 'crowds' in each:
                each.labels = torch.where(each.crowds, -1, each.labels)
        return self.pose.encode(persons, feat_sizes, img_size, ignored)

    def encode_previous(
        self,
        previous: Sequence[InstanceData],
        img_size: Size,
        generator: torch.Generator | None = None,
    ) -> PreviousFrame:
        """Previous heatmap and centres, from the previous ground truth or from active tracks.

        Args:
            previous: one per image, boxes in pixels of the network input. Not drawn: labels of C
                and above, ``crowds``, ``scores`` below ``min_track_score``, ``active`` 0.
                Ignored regions are drawn.
            img_size: (h, w) of the network input.
            generator: random generator of the noise of the training recipe, on the device of the
                boxes; ``None`` adds no noise.

        Convention:
            All classes share one channel. Centre, size and radius are those of the box clipped to
            the input (``w - 1``). A lost object is not drawn and is linked to its noisy centre; a
            kept one is drawn at its noisy centre and linked to the exact one.
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
        radius, sigma = self.gaussians._replace(sigma=None).radii(size)
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
        """Add the fields ``previous_centers`` and ``previous_mask`` to ground truth, by identity.

        If several previous instances have the same identity, the first one counts. Inputs are
        not modified.
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
            Negative sizes count as zero. If the network has edges, they replace the box made of
            size and offset; unclipped edges are preferred. ``centers`` are *integer* cells, so
            that ``centers + tracking`` is the previous centre. With ``pose`` and its branches the
            detections have the fields of ``CenterNetPoseTargetEncoder.decode``.
        """
        height, width = outputs.heatmap.shape[-2:]
        peaks = find_peaks(outputs.heatmap, self.topk, self.peak_kernel)
        cell = cell_xy(peaks.index, width).to(peaks.scores)
        boxes = self.boxes_at(outputs, peaks)
        scale = img_size[1] / width, img_size[0] / height
        fields = {
            'bboxes': scale_boxes(boxes, *scale),
            'scores': peaks.scores,
            'labels': peaks.labels,
            'centers': scale_boxes(cell, *scale),
        }
        if outputs.tracking is not None:
            displacement = gather_cells(promote(outputs.tracking), peaks.index)
            fields['tracking'] = scale_boxes(displacement, *scale)
        found, persons = split_images(**fields), outputs.pose()
        if self.pose is not None and persons is not None:  # the same peaks in the same order
            for each, person in zip(found, self.pose.decode(persons, img_size), strict=True):
                each.keypoints = person.keypoints
                each.keypoint_scores = person.keypoint_scores
        return found

    def boxes_at(self, outputs: CenterTrackOutputs, peaks: Peaks) -> Tensor:
        """Boxes (B, K, 4) of the peaks, in cells."""
        width = outputs.heatmap.shape[-1]
        edges = outputs.ltrb if outputs.ltrb_amodal is None else outputs.ltrb_amodal
        if edges is not None:
            cell = cell_xy(peaks.index, width).to(peaks.scores)
            return cell.repeat(1, 1, 2) + gather_cells(promote(edges), peaks.index)
        size = gather_cells(promote(outputs.size), peaks.index).clamp(min=0)
        return boxes_around(read_centers(outputs.offset, peaks.index, width), size)

    def ideal_outputs(self, targets: CenterTrackTargets) -> CenterTrackOutputs:
        """Logits of the target heatmap; the other targets at the centres."""
        feat_size = targets.heatmap.shape[-2:]
        maps = {
            name: scatter_cells(getattr(targets, name), targets.index, targets.mask, feat_size)
            for name in ('size', 'offset', 'tracking', 'ltrb_amodal', 'ltrb')
        }
        if self.pose is not None and targets.pose is not None:
            ideal = self.pose.ideal_outputs(targets.pose)
            names = ('keypoints', 'keypoint_heatmap', 'keypoint_offset')
            maps |= {name: getattr(ideal, name) for name in names}
        return CenterTrackOutputs(heatmap=ideal_logits(targets.heatmap), **maps)


def clipped_centers(boxes: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """Centres and sizes (..., 2) of boxes clipped to the last pixel of a (h, w) image."""
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
    """An optional field as (B, slots, *shape), ``default`` in images without it."""
    missing = constant(default, instances[0].labels.new_empty(0, dtype=dtype))
    rows = [
        each[name].to(dtype) if name in each else missing.expand(len(each), *shape)
        for each in instances
    ]
    return pad_rows(rows, slots)
