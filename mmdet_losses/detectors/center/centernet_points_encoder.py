"""Target encoder of CenterNetPoints: objects as points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core import (
    Ignored,
    Size,
    counted_cells,
    ideal_logits,
    pad_ignored,
    pad_instances,
    split_images,
    weigh_cells,
)
from mmdet_losses.detectors.center.centers import (
    Centers,
    CenterTargetEncoder,
    GaussianRule,
    last_writer,
    of_class,
    read_centers,
    spread_by_class,
)
from mmdet_losses.detectors.center.contracts import (
    CenterNetPointsOutputs,
    CenterNetPointsTargets,
    DenseSize,
)
from mmdet_losses.ops import (
    Peaks,
    Splats,
    boxes_around,
    check_choice,
    gather_cells,
    promote,
    scatter_cells,
)
from mmdet_losses.registry import TASK_UTILS

Convention = Literal['official', 'mmdet']
SizeTarget = Literal['object', 'class', 'dense']

_RADIUS = {
    'official': {'mode': 'legacy', 'min_overlap': 0.7},
    'mmdet': {'mode': 'fixed', 'min_overlap': 0.3},
}


@TASK_UTILS.register_module()
class CenterNetPointsTargetEncoder(
    CenterTargetEncoder[CenterNetPointsOutputs, CenterNetPointsTargets]
):
    r"""Objects as points: a Gaussian at each centre, and the object's size and sub-cell offset.

    Zhou, Wang and Krähenbühl, *Objects as Points*, section 3.

    Convention:
        'official' maps the box to cells, clips it to the last cell (``W - 1``, not ``W``) and
        takes size, centre and radius from the clipped box: sizes rounded up, the legacy radius
        formula at an IoU of 0.7. A box that is empty after the clip has no target. 'mmdet' is
        MMDetection's CenterNet: no clip, no rounding, the fixed formula at 0.3.

    Args:
        num_classes: C.
        max_objects: number of annotations per image that are used, the first ones.
        convention: see above.
        radius: ``dict(mode='fixed' | 'legacy', min_overlap=...)`` instead of the convention's.
        sigma: standard deviation of every Gaussian, in a window of 3 sigma (the official MSE
            variant); ``None`` computes it from the object's size.
        size_target: 'object' gives sizes at the centre; 'class' the same with two channels per
            class; 'dense' also a size for every cell that a Gaussian covers.
        topk: detections per image before post-processing.
        peak_kernel: odd window in which a peak must be the maximum.

    Encoded:
        :class:`~mmdet_losses.detectors.center.contracts.CenterNetPointsTargets`.

    Raises:
        ValueError: an unknown convention or size target.
    """

    outputs_type = CenterNetPointsOutputs

    def __init__(
        self,
        num_classes: int,
        max_objects: int = 128,
        convention: Convention = 'official',
        radius: dict | None = None,
        sigma: float | None = None,
        size_target: SizeTarget = 'object',
        topk: int = 100,
        peak_kernel: int = 3,
    ) -> None:
        check_choice('convention', convention, _RADIUS)
        check_choice('size_target', size_target, ('object', 'class', 'dense'))
        official = convention == 'official'
        gaussians = GaussianRule({**_RADIUS[convention], **(radius or {})}, official, sigma)
        super().__init__(num_classes, max_objects, gaussians, topk, peak_kernel, clip=official)
        self.size_target = size_target

    def encode(
        self,
        gt_instances: Sequence[InstanceData],
        feat_sizes: Sequence[Size],
        img_size: Size,
        ignored: Ignored = None,
    ) -> CenterNetPointsTargets:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`; inputs are not modified."""
        padded = pad_instances(gt_instances, self.max_objects)
        found = self.locate(padded, feat_sizes[0], img_size)
        heatmap = self.draw_centers(found, feat_sizes[0])
        num_pos = found.mask.sum(dtype=torch.float32)
        return CenterNetPointsTargets(
            heatmap=heatmap,
            index=found.index,
            labels=found.labels,
            size=found.size,
            offset=found.offset,
            mask=found.mask,
            num_pos=num_pos,
            num_dropped=padded.count - num_pos,
            dense_size=self._dense_size(found, heatmap) if self.size_target == 'dense' else None,
            counted=weigh_cells(
                counted_cells(heatmap, pad_ignored(ignored, img_size), img_size),
                *(padded.weights, found.labels, found.index, found.mask, heatmap.shape),
            ),
            weights=padded.weights,
        )

    def _dense_size(self, found: Centers, heatmap: Splats) -> DenseSize:
        """The official ``dense_wh``: sizes where an object's Gaussian is the highest so far.

        The official code compares a float64 Gaussian with the float32 map into which it was just
        drawn, so cells whose value was rounded up have no size. This code does the same.
        """
        _, _, height, width = heatmap.shape
        value = self.gaussians.per_object(found.xy, found.size, found.mask, (height, width))
        writes = (value > 0) & (value >= value.float().cummax(1).values)
        dense = last_writer(writes, found.size)
        return DenseSize(dense, heatmap.dense().amax(1, keepdim=True).expand(-1, 2, -1, -1))

    def decode(self, outputs: CenterNetPointsOutputs, img_size: Size) -> list[InstanceData]:
        """The ``topk`` best peaks of each image, by descending score; boxes are not clipped.

        Convention:
            A negative size gives an inverted box, as in the official code. Without an offset
            branch the centre is the middle of its cell.
        """
        boxes, scores, labels = self.decode_tensors(outputs, img_size, self.topk)
        return split_images(bboxes=boxes, scores=scores, labels=labels)

    def boxes_at(self, outputs: CenterNetPointsOutputs, peaks: Peaks) -> Tensor:
        """Boxes (B, K, 4) of the peaks, in cells."""
        if self.size_target != 'class':
            return super().boxes_at(outputs, peaks)
        size = of_class(gather_cells(promote(outputs.size), peaks.index), peaks.labels)
        width = outputs.heatmap.shape[-1]
        return boxes_around(read_centers(outputs.offset, peaks.index, width), size)

    def ideal_outputs(self, targets: CenterNetPointsTargets) -> CenterNetPointsOutputs:
        """Logits of the target heatmap; sizes and offsets at the centres."""
        feat_size = targets.heatmap.shape[-2:]
        size = targets.size
        if self.size_target == 'class':
            size = spread_by_class(size, targets.labels, self.num_classes)
        size, offset = (
            scatter_cells(each, targets.index, targets.mask, feat_size)
            for each in (size, targets.offset)
        )
        return CenterNetPointsOutputs(ideal_logits(targets.heatmap), size, offset)
