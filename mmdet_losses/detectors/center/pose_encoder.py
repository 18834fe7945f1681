"""People as points with their keypoints: the target encoder of CenterNetPose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core import Size, TargetEncoder, pad_instances, pad_rows
from mmdet_losses.detectors.center.centers import (
    Centers,
    Pen,
    as_logits,
    last_writer,
    locate,
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
    boxes_around,
    cell_xy,
    check_choice,
    clip_boxes,
    gather_cells,
    is_proper,
    promote,
    scale_boxes,
    scatter_cells,
    suppress_non_peaks,
    top_peaks,
)
from mmdet_losses.registry import TASK_UTILS

KeypointTarget = Literal['object', 'dense']
Activation = Literal['sigmoid', 'none']


@TASK_UTILS.register_module()
class CenterNetPoseTargetEncoder(TargetEncoder[CenterNetPoseOutputs, CenterNetPoseTargets]):
    r"""A Gaussian at each person's centre and at each keypoint, and the way from one to the other.

    Zhou, Wang and Krähenbühl, *Objects as Points*, section 4.2.

    Convention:
        Ground truth needs ``keypoints`` (n, K, 2) in input pixels and ``keypoints_visible``
        (n, K), where anything above 0 counts as labelled. Boxes are treated as by
        :class:`~mmdet_losses.detectors.center.points_encoder.CenterNetPointsTargetEncoder`
        ('official'). A keypoint off the map has no target; its Gaussian has its person's radius.
        A person without labelled keypoints is a positive of the heatmap, as in the official
        code, but regresses nothing.

    Args:
        num_keypoints: K.
        num_classes: C, classes of things with such keypoints.
        max_objects: the first so many annotations of an image are used.
        radius: ``dict(mode='fixed' | 'legacy', min_overlap=...)``.
        sigma: draw every Gaussian with this standard deviation in a window of 3 sigma instead.
        keypoint_target: 'dense' also gives every cell near a person its way to the keypoints.
        topk: detections an image, and candidates of each keypoint.
        peak_kernel: odd window in which a peak must be the maximum.
        keypoint_activation: 'none' reads the keypoint heatmap as scores (the MSE variant).
        min_keypoint_score: lowest score of a candidate, exclusive.
        snap_reach: greatest distance of a candidate from the regressed keypoint, as a part of the
            longer side of the box.

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
        self.num_keypoints, self.num_classes = num_keypoints, num_classes
        self.max_objects, self.keypoint_target = max_objects, keypoint_target
        self.pen = Pen({'mode': 'legacy', 'min_overlap': 0.7, **(radius or {})}, sigma=sigma)
        self.topk, self.peak_kernel = topk, peak_kernel
        self.keypoint_activation = keypoint_activation
        self.min_keypoint_score, self.snap_reach = min_keypoint_score, snap_reach

    def encode(
        self, gt_instances: Sequence[InstanceData], feat_sizes: Sequence[Size], img_size: Size
    ) -> CenterNetPoseTargets:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`; inputs are not modified."""
        height, width = feat_sizes[0]
        scale = width / img_size[1], height / img_size[0]
        padded = pad_instances(gt_instances, self.max_objects)
        boxes = scale_boxes(padded.boxes, *scale)
        valid = padded.real & is_proper(boxes)
        boxes = clip_boxes(boxes, width - 1, height - 1)
        found = locate(boxes, padded.labels, valid, self.num_classes, (height, width))
        shape = (self.num_classes, height, width)
        heatmap = self.pen.draw(found.xy, found.size, found.labels, found.mask, shape)

        points, visible = self._keypoints(gt_instances, padded.real.shape[1])
        points = scale_boxes(points.flatten(2), *scale).unflatten(2, (-1, 2))
        x, y = points.unbind(-1)
        labelled = visible > 0
        on_map = labelled & (x >= 0) & (x < width) & (y >= 0) & (y < height)
        on_map = on_map & found.mask[..., None]
        points = torch.where(on_map[..., None], points, 0)
        cell = points.floor().long()  # (B, M, K, 2)
        way = torch.where(on_map[..., None], points - found.xy[:, :, None], 0)
        num_pos = found.mask.sum().float()
        return CenterNetPoseTargets(
            heatmap=heatmap,
            index=found.index,
            labels=found.labels,
            size=found.size,
            offset=found.offset,
            mask=found.mask & labelled.any(-1),
            keypoints=way.flatten(2),
            keypoint_mask=on_map,
            keypoint_heatmap=self._draw_keypoints(cell, found.size, on_map, (height, width)),
            keypoint_index=(cell[..., 1] * width + cell[..., 0]).flatten(1),
            keypoint_offset=(points - cell).flatten(1, 2),
            num_pos=num_pos,
            num_dropped=padded.real.sum() + padded.left_out - num_pos,
            dense_keypoints=self._dense_keypoints(found, way, on_map, (height, width))
            if self.keypoint_target == 'dense'
            else None,
        )

    def _keypoints(self, gt_instances: Sequence[InstanceData], slots: int) -> tuple[Tensor, Tensor]:
        """Keypoints (B, M, K, 2) in input pixels and their visibility (B, M, K)."""
        for instances in gt_instances:
            if 'keypoints' not in instances or 'keypoints_visible' not in instances:
                raise ValueError(
                    'The ground truth has no keypoints; give keypoints (n, K, 2) and '
                    'keypoints_visible (n, K) of every image.'
                )
            if tuple(instances.keypoints.shape[1:]) != (self.num_keypoints, 2):
                raise ValueError(
                    f'The ground truth has keypoints of shape {tuple(instances.keypoints.shape)}, '
                    f'not (n, {self.num_keypoints}, 2); set num_keypoints.'
                )
        points = pad_rows([each.keypoints.float() for each in gt_instances], slots)
        return points, pad_rows([each.keypoints_visible for each in gt_instances], slots)

    def _draw_keypoints(self, cell: Tensor, size: Tensor, mask: Tensor, feat_size: Size) -> Splats:
        joints = self.num_keypoints
        channel = torch.arange(joints, device=cell.device).expand(mask.shape)
        return self.pen.draw(
            cell.flatten(1, 2),
            size.repeat_interleave(joints, 1),
            channel.flatten(1),
            mask.flatten(1),
            (joints, *feat_size),
        )

    def _dense_keypoints(
        self, found: Centers, way: Tensor, mask: Tensor, feat_size: Size
    ) -> DenseKeypoints:
        """The official ``dense_hps``: written where no earlier person's Gaussian is higher.

        Only persons of the same class compete. Heights are compared as in the official code, the
        new one in float64 with those before in float32.
        """
        value = self.pen.gaussians(found.xy, found.size, found.mask, feat_size)
        before = torch.zeros_like(value)
        for label in range(self.num_classes):
            same = (found.labels == label)[..., None, None]
            highest = torch.where(same, value, 0).float().cummax(1).values[:, :-1].double()
            before[:, 1:] = torch.where(same[:, 1:], highest, before[:, 1:])
        writes = (value > 0) & (value >= before)
        rows, columns = (torch.arange(side, device=way.device) for side in feat_size)
        cells = torch.stack((columns.expand(feat_size), rows[:, None].expand(feat_size)))
        keypoints, weights = [], []
        for joint in range(self.num_keypoints):
            has = mask[..., joint, None, None]
            values = torch.cat((way[:, :, joint], found.xy, torch.ones_like(found.xy)), -1)
            away, center, written = last_writer(writes & has, values).split(2, 1)
            keypoints.append(torch.where(written > 0, away - (cells - center), 0))
            weight = torch.where(has, value, 0).amax(1).float()
            weights.append(weight[:, None].expand(-1, 2, -1, -1))
        return DenseKeypoints(torch.cat(keypoints, 1), torch.cat(weights, 1))

    def decode(self, outputs: CenterNetPoseOutputs, img_size: Size) -> list[InstanceData]:
        """The ``topk`` best persons by descending score, with ``keypoints`` (K, 2); no clip.

        Convention:
            A keypoint is the one regressed from the centre's cell, unless a peak of the keypoint
            heatmap takes its place, see :mod:`~mmdet_losses.detectors.center.snap`.
            ``keypoint_scores`` (K,), which the official code lacks, are that heatmap's scores in
            the cells of the keypoints, 0 off the map; without that branch the person's score.
        """
        heatmap = promote(outputs.heatmap).sigmoid()
        height, width = heatmap.shape[-2:]
        peaks = top_peaks(suppress_non_peaks(heatmap, self.peak_kernel), self.topk)
        size = gather_cells(promote(outputs.size), peaks.index)
        boxes = boxes_around(read_centers(outputs.offset, peaks.index, width), size)
        way = gather_cells(promote(outputs.keypoints), peaks.index).unflatten(2, (-1, 2))
        keypoints = cell_xy(peaks.index, width)[:, :, None] + way
        keypoint_scores = peaks.scores[..., None].expand(keypoints.shape[:-1])
        if outputs.keypoint_heatmap is not None:
            positions, scores = self._candidates(outputs)
            keypoints = snap_keypoints(
                keypoints, boxes, positions, scores > self.min_keypoint_score, self.snap_reach
            )
            keypoint_scores = read_scores(self._keypoint_heat(outputs), keypoints)
        scale = img_size[1] / width, img_size[0] / height
        boxes = scale_boxes(boxes, *scale)
        keypoints = scale_boxes(keypoints, *scale)
        names = ('bboxes', 'scores', 'labels', 'keypoints', 'keypoint_scores')
        fields = boxes, peaks.scores, peaks.labels, keypoints, keypoint_scores
        images = zip(*fields, strict=True)
        return [InstanceData(**dict(zip(names, rows, strict=True))) for rows in images]

    def _candidates(self, outputs: CenterNetPoseOutputs) -> tuple[Tensor, Tensor]:
        """Peaks of the keypoint heatmap: positions (B, K, N, 2) in cells, scores (B, K, N)."""
        heatmap = self._keypoint_heat(outputs)
        height, width = heatmap.shape[-2:]
        scores, index = (
            suppress_non_peaks(heatmap, self.peak_kernel)
            .flatten(2)
            .topk(min(self.topk, height * width))
        )
        positions = read_centers(outputs.keypoint_offset, index.flatten(1), width)
        return positions.unflatten(1, index.shape[1:]), scores

    def _keypoint_heat(self, outputs: CenterNetPoseOutputs) -> Tensor:
        """The keypoint heatmap as scores, (B, K, H, W)."""
        heatmap = promote(outputs.keypoint_heatmap)
        return heatmap.sigmoid() if self.keypoint_activation == 'sigmoid' else heatmap

    def ideal_outputs(self, targets: CenterNetPoseTargets) -> CenterNetPoseOutputs:
        """Logits of the target heatmaps, everything else at the cells where it is read."""
        feat_size = targets.heatmap.shape[-2:]
        found = targets.mask | (targets.size > 0).all(-1)
        joints = targets.keypoint_mask.flatten(1)

        def at_centers(values: Tensor) -> Tensor:
            return scatter_cells(values, targets.index, found, feat_size)

        return CenterNetPoseOutputs(
            heatmap=as_logits(targets.heatmap.dense()),
            size=at_centers(targets.size),
            keypoints=at_centers(targets.keypoints),
            offset=at_centers(targets.offset),
            keypoint_heatmap=as_logits(targets.keypoint_heatmap.dense()),
            keypoint_offset=scatter_cells(
                targets.keypoint_offset, targets.keypoint_index, joints, feat_size
            ),
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
