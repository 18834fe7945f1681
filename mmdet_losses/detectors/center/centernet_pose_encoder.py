"""Target encoder of CenterNetPose: persons as points with their keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core import (
    Ignored,
    IgnoredRegions,
    PaddedInstances,
    Size,
    counted_cells,
    ideal_logits,
    pad_ignored,
    pad_instances,
    pad_rows,
    split_images,
    weigh_cells,
)
from mmdet_losses.detectors.center.centers import (
    Centers,
    CenterTargetEncoder,
    GaussianRule,
    last_writer,
    read_centers,
)
from mmdet_losses.detectors.center.contracts import (
    CenterNetPoseOutputs,
    CenterNetPoseTargets,
    DenseKeypoints,
)
from mmdet_losses.detectors.center.snap import snap_keypoints
from mmdet_losses.ops import (
    Splats,
    cell_xy,
    check_choice,
    constant,
    counting,
    find_peaks,
    gather_cells,
    promote,
    scale_boxes,
    scatter_cells,
    suppress_non_peaks,
    zero_unless,
)
from mmdet_losses.registry import TASK_UTILS

KeypointTarget = Literal['object', 'dense']
Activation = Literal['sigmoid', 'none']


class Keypoints(NamedTuple):
    """Keypoints of a batch on the output map; rows where ``mask`` is false are zero."""

    labelled: Tensor
    """(B, M, K) bool."""
    mask: Tensor
    """(B, M, K) bool: labelled, of an object with a target, and on the map."""
    xy: Tensor
    """(B, M, K, 2) in cells."""
    cell: Tensor
    """(B, M, K, 2) int64."""
    displacement: Tensor
    """(B, M, K, 2) from the integer cell of the object's centre."""


@TASK_UTILS.register_module()
class CenterNetPoseTargetEncoder(CenterTargetEncoder[CenterNetPoseOutputs, CenterNetPoseTargets]):
    r"""Gaussians at the centres and keypoints of persons, displacements from centre to keypoints.

    Zhou, Wang and Krähenbühl, *Objects as Points*, section 4.2.

    Convention:
        Ground truth needs ``keypoints`` (n, K, 2) in input pixels and ``keypoints_visible``
        (n, K); values above 0 mean labelled. Boxes are treated as by
        ``CenterNetPointsTargetEncoder`` ('official'). A keypoint off the map has no target; its
        Gaussian has the radius of its person's box. A person without labelled keypoints is a
        positive of the heatmap, as in the official code, but has no regression targets.

    Args:
        num_keypoints: K.
        num_classes: C, classes of objects with such keypoints.
        max_objects: number of annotations per image that are used, the first ones.
        radius: ``dict(mode='fixed' | 'legacy', min_overlap=...)``.
        sigma: standard deviation of every Gaussian, in a window of 3 sigma; ``None`` computes it
            from the object's size.
        keypoint_target: 'dense' also gives displacements in every cell near a person.
        topk: detections per image, and candidates per keypoint.
        peak_kernel: odd window in which a peak must be the maximum.
        keypoint_activation: 'none' reads the keypoint heatmap as scores (the MSE variant).
        min_keypoint_score: lowest score of a candidate, exclusive.
        snap_reach: largest distance of a candidate from the regressed keypoint, as a share of the
            longer side of the box.

    Encoded:
        :class:`~mmdet_losses.detectors.center.contracts.CenterNetPoseTargets`.

    Raises:
        ValueError: an unknown keypoint target or activation; in ``encode``, ground truth without
            keypoints or with another number of them.
    """

    outputs_type = CenterNetPoseOutputs

    def __init__(
        self,
        num_keypoints: int = 17,
        num_classes: int = 1,
        max_objects: int = 32,
        radius: dict | None = None,
        sigma: float | None = None,
        keypoint_target: KeypointTarget = 'object',
        topk: int = 100,
        peak_kernel: int = 3,
        keypoint_activation: Activation = 'sigmoid',
        min_keypoint_score: float = 0.1,
        snap_reach: float = 0.3,
    ) -> None:
        check_choice('keypoint_target', keypoint_target, ('object', 'dense'))
        check_choice('keypoint_activation', keypoint_activation, ('sigmoid', 'none'))
        gaussians = GaussianRule.legacy(radius, sigma)
        super().__init__(num_classes, max_objects, gaussians, topk, peak_kernel)
        self.num_keypoints, self.keypoint_target = num_keypoints, keypoint_target
        self.keypoint_activation = keypoint_activation
        self.min_keypoint_score, self.snap_reach = min_keypoint_score, snap_reach

    def encode(
        self,
        gt_instances: Sequence[InstanceData],
        feat_sizes: Sequence[Size],
        img_size: Size,
        ignored: Ignored = None,
    ) -> CenterNetPoseTargets:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`; inputs are not modified."""
        feat_size = feat_sizes[0]
        padded = pad_instances(gt_instances, self.max_objects)
        found = self.locate(padded, feat_size, img_size)
        points = self._locate_keypoints(gt_instances, found, feat_size, img_size)
        num_pos = found.mask.sum(dtype=torch.float32)
        heatmap = self.draw_centers(found, feat_size)
        keypoint_heatmap = self._draw_keypoints(points, found.radii, feat_size)
        regions = pad_ignored(ignored, img_size)
        return CenterNetPoseTargets(
            heatmap=heatmap,
            index=found.index,
            labels=found.labels,
            size=found.size,
            offset=found.offset,
            mask=found.mask & points.labelled.any(-1),
            keypoints=points.displacement.flatten(2),
            keypoint_mask=points.mask,
            keypoint_heatmap=keypoint_heatmap,
            keypoint_index=(points.cell[..., 1] * feat_size[1] + points.cell[..., 0]).flatten(1),
            keypoint_offset=(points.xy - points.cell).flatten(1, 2),
            num_pos=num_pos,
            num_dropped=padded.count - num_pos,
            dense_keypoints=self._dense_keypoints(found, points, feat_size)
            if self.keypoint_target == 'dense'
            else None,
            counted=weigh_cells(
                counted_cells(heatmap, regions, img_size),
                *(padded.weights, found.labels, found.index, found.mask, heatmap.shape),
            ),
            keypoint_counted=self._keypoint_cells(
                points, keypoint_heatmap, padded, regions, img_size
            ),
            weights=padded.weights,
        )

    def _keypoint_cells(
        self,
        points: Keypoints,
        heatmap: Splats,
        padded: PaddedInstances,
        regions: IgnoredRegions | None,
        img_size: Size,
    ) -> Tensor | None:
        """Factors of the cells of the keypoints' heatmap."""
        counted = counted_cells(heatmap, regions, img_size, by_class=False)
        if padded.weights is None:
            return counted
        weights = padded.weights.repeat_interleave(self.num_keypoints, 1)
        channel = torch.arange(self.num_keypoints, device=weights.device)
        channel = channel.expand(points.mask.shape).flatten(1)
        index = points.cell[..., 1] * heatmap.shape[-1] + points.cell[..., 0]
        mask = points.mask.flatten(1)
        return weigh_cells(counted, weights, channel, index.flatten(1), mask, heatmap.shape)

    def _locate_keypoints(
        self,
        gt_instances: Sequence[InstanceData],
        found: Centers,
        feat_size: Size,
        img_size: Size,
    ) -> Keypoints:
        for instances in gt_instances:
            if 'keypoints' not in instances or 'keypoints_visible' not in instances:
                raise ValueError(
                    'The ground truth has no keypoints; set keypoints (n, K, 2) and '
                    'keypoints_visible (n, K) in every image.'
                )
            if tuple(instances.keypoints.shape[1:]) != (self.num_keypoints, 2):
                raise ValueError(
                    f'The ground truth has keypoints of shape {tuple(instances.keypoints.shape)}, '
                    f'not (n, {self.num_keypoints}, 2); set num_keypoints.'
                )
        slots = found.mask.shape[1]
        xy = pad_rows([each.keypoints for each in gt_instances], slots).float()
        visible = pad_rows([each.keypoints_visible for each in gt_instances], slots)
        height, width = feat_size
        scale = width / img_size[1], height / img_size[0]
        xy = scale_boxes(xy.flatten(2), *scale).unflatten(2, (-1, 2))
        labelled = visible > 0
        on_map = (xy >= 0) & (xy < constant([width, height], xy))
        mask = labelled & on_map.all(-1) & found.mask[..., None]
        xy = zero_unless(mask[..., None], xy)
        displacement = zero_unless(mask[..., None], xy - found.xy[:, :, None])
        return Keypoints(labelled, mask, xy, xy.long(), displacement)

    def _draw_keypoints(
        self, points: Keypoints, radii: tuple[Tensor, Tensor], feat_size: Size
    ) -> Splats:
        """Gaussians of the keypoints, with the radii of their persons' boxes."""
        channel = counting(self.num_keypoints, points.mask.device).expand(points.mask.shape)
        radius, sigma = (each.repeat_interleave(self.num_keypoints, 1) for each in radii)
        return self.gaussians.draw(
            points.cell.flatten(1, 2),
            (radius, sigma),
            channel.flatten(1),
            points.mask.flatten(1),
            (self.num_keypoints, *feat_size),
        )

    def _dense_keypoints(
        self, found: Centers, points: Keypoints, feat_size: Size
    ) -> DenseKeypoints:
        """The official ``dense_hps``: written where no earlier person's Gaussian is higher.

        Only persons of the same class compete. Values are compared as in the official code: the
        new one in float64 with the earlier ones in float32.
        """
        value = self.gaussians.per_object(found.xy, found.size, found.mask, feat_size)
        before = torch.zeros_like(value)
        for label in range(self.num_classes):
            same = (found.labels == label)[..., None, None]
            highest = torch.where(same, value, 0).float().cummax(1).values[:, :-1].double()
            before[:, 1:] = torch.where(same[:, 1:], highest, before[:, 1:])
        writes = (value > 0) & (value >= before)
        rows, columns = (torch.arange(side, device=value.device) for side in feat_size)
        cells = torch.stack((columns.expand(feat_size), rows[:, None].expand(feat_size)))
        keypoints, weights = [], []
        for k in range(self.num_keypoints):
            has = points.mask[..., k, None, None]
            values = (points.displacement[:, :, k], found.xy, torch.ones_like(found.xy))
            written = last_writer(writes & has, torch.cat(values, -1))
            displacement, center, one = written.split(2, 1)
            keypoints.append(torch.where(one > 0, displacement - (cells - center), 0))
            weight = torch.where(has, value, 0).amax(1).float()
            weights.append(weight[:, None].expand(-1, 2, -1, -1))
        return DenseKeypoints(torch.cat(keypoints, 1), torch.cat(weights, 1))

    def decode(self, outputs: CenterNetPoseOutputs, img_size: Size) -> list[InstanceData]:
        """The ``topk`` best persons by descending score, with ``keypoints`` (K, 2); no clip.

        Convention:
            A keypoint is the one regressed from the centre's cell, or a peak of the keypoint
            heatmap instead, see :mod:`~mmdet_losses.detectors.center.snap`. ``keypoint_scores``
            (K,), which the official code lacks, are the scores of that heatmap in the cells of
            the keypoints, 0 off the map; without that branch they are the person's score.
        """
        height, width = outputs.heatmap.shape[-2:]
        peaks = find_peaks(outputs.heatmap, self.topk, self.peak_kernel)
        boxes = self.boxes_at(outputs, peaks)
        displacement = gather_cells(promote(outputs.keypoints), peaks.index).unflatten(2, (-1, 2))
        keypoints = cell_xy(peaks.index, width)[:, :, None] + displacement
        keypoint_scores = peaks.scores[..., None].expand(keypoints.shape[:-1])
        if outputs.keypoint_heatmap is not None:
            heatmap = promote(outputs.keypoint_heatmap)
            heatmap = heatmap.sigmoid() if self.keypoint_activation == 'sigmoid' else heatmap
            keypoints = self._snap(keypoints, boxes, heatmap, outputs.keypoint_offset)
            keypoint_scores = read_scores(heatmap, keypoints)
        scale = img_size[1] / width, img_size[0] / height
        return split_images(
            bboxes=scale_boxes(boxes, *scale),
            scores=peaks.scores,
            labels=peaks.labels,
            keypoints=scale_boxes(keypoints, *scale),
            keypoint_scores=keypoint_scores,
        )

    def _snap(
        self, keypoints: Tensor, boxes: Tensor, heatmap: Tensor, offset: Tensor | None
    ) -> Tensor:
        """Keypoints (B, P, K, 2) moved to peaks of their heatmap (B, K, H, W), in cells."""
        count = min(self.topk, heatmap[0, 0].numel())
        peaks = suppress_non_peaks(heatmap, self.peak_kernel).flatten(2)
        scores, index = peaks.topk(count)  # (B, K, N)
        candidates = read_centers(offset, index.flatten(1), heatmap.shape[-1])
        candidates = candidates.unflatten(1, index.shape[1:])
        valid = scores > self.min_keypoint_score
        return snap_keypoints(keypoints, boxes, candidates, valid, self.snap_reach)

    def ideal_outputs(self, targets: CenterNetPoseTargets) -> CenterNetPoseOutputs:
        """Logits of the target heatmaps; the other targets in the cells where they are read."""
        feat_size = targets.heatmap.shape[-2:]
        found = targets.mask | (targets.size > 0).all(-1)
        size, keypoints, offset = (
            scatter_cells(each, targets.index, found, feat_size)
            for each in (targets.size, targets.keypoints, targets.offset)
        )
        keypoint_offset = scatter_cells(
            targets.keypoint_offset,
            targets.keypoint_index,
            targets.keypoint_mask.flatten(1),
            feat_size,
        )
        return CenterNetPoseOutputs(
            heatmap=ideal_logits(targets.heatmap),
            size=size,
            keypoints=keypoints,
            offset=offset,
            keypoint_heatmap=ideal_logits(targets.keypoint_heatmap),
            keypoint_offset=keypoint_offset,
        )


def read_scores(heatmap: Tensor, keypoints: Tensor) -> Tensor:
    """Scores of a map (B, K, H, W) in the cells of keypoints (B, P, K, 2); 0 off the map.

    Returns (B, P, K).
    """
    height, width = heatmap.shape[-2:]
    x, y = keypoints.floor().long().unbind(-1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    index = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    scores = heatmap.flatten(2).gather(2, index.transpose(1, 2)).transpose(1, 2)
    return torch.where(inside, scores, 0)
