"""Objects as points: the target encoder of CenterNetPoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from mmengine.structures import InstanceData

from mmdet_losses.core import Size, TargetEncoder, pad_instances
from mmdet_losses.detectors.center.centers import (
    Centers,
    Pen,
    as_logits,
    last_writer,
    locate,
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
    Splats,
    boxes_around,
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

Convention = Literal['official', 'mmdet']
SizeTarget = Literal['object', 'class', 'dense']

_RADIUS = {
    'official': {'mode': 'legacy', 'min_overlap': 0.7},
    'mmdet': {'mode': 'fixed', 'min_overlap': 0.3},
}


@TASK_UTILS.register_module()
class CenterNetPointsTargetEncoder(TargetEncoder[CenterNetPointsOutputs, CenterNetPointsTargets]):
    r"""Objects as points: a Gaussian at each centre, the size and the sub-cell offset beside it.

    Zhou, Wang and Krähenbühl, *Objects as Points*, section 3.

    Convention:
        'official' maps the box to cells, clips it to the last cell (``W - 1``, not ``W``) and
        takes size, centre and radius from the clipped box: sizes rounded up, the legacy radius
        formula at an IoU of 0.7. A box that collapses in the clip has no target. 'mmdet' is
        MMDetection's CenterNet: no clip, no rounding, the fixed formula at 0.3.

    Args:
        num_classes: C.
        max_objects: the first so many annotations of an image are used.
        convention: see above.
        radius: ``dict(mode='fixed' | 'legacy', min_overlap=...)`` instead of the convention's.
        sigma: draw every Gaussian with this standard deviation in a window of 3 sigma, whatever
            the object's size (the official MSE variant), instead of one by radius.
        size_target: 'object' sizes at the centre; 'class' the same from two channels a class;
            'dense' also a size for every cell that a Gaussian covers.
        topk: detections an image before post-processing.
        peak_kernel: odd window in which a peak must be the maximum.

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
        self.num_classes, self.max_objects = num_classes, max_objects
        self.clip, self.size_target = convention == 'official', size_target
        self.pen = Pen({**_RADIUS[convention], **(radius or {})}, self.clip, sigma)
        self.topk, self.peak_kernel = topk, peak_kernel

    def encode(
        self, gt_instances: Sequence[InstanceData], feat_sizes: Sequence[Size], img_size: Size
    ) -> CenterNetPointsTargets:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`; inputs are not modified."""
        height, width = feat_sizes[0]
        padded = pad_instances(gt_instances, self.max_objects)
        boxes = scale_boxes(padded.boxes, width / img_size[1], height / img_size[0])
        valid = padded.real & is_proper(boxes)
        if self.clip:
            boxes = clip_boxes(boxes, width - 1, height - 1)
        found = locate(boxes, padded.labels, valid, self.num_classes, (height, width))
        shape = (self.num_classes, height, width)
        heatmap = self.pen.draw(found.xy, found.size, found.labels, found.mask, shape)
        num_pos = found.mask.sum().float()
        return CenterNetPointsTargets(
            heatmap=heatmap,
            index=found.index,
            labels=found.labels,
            size=found.size,
            offset=found.offset,
            mask=found.mask,
            num_pos=num_pos,
            num_dropped=padded.real.sum() + padded.left_out - num_pos,
            dense_size=self._dense_size(found, heatmap) if self.size_target == 'dense' else None,
        )

    def _dense_size(self, found: Centers, heatmap: Splats) -> DenseSize:
        """The official ``dense_wh``: sizes where an object's Gaussian is the highest so far.

        The official code compares its float64 Gaussian with the float32 map that it has just been
        drawn into, so cells where rounding went up keep no size; this does the same.
        """
        size = heatmap.shape[-2:]
        value = self.pen.gaussians(found.xy, found.size, found.mask, size)
        writes = (value > 0) & (value >= value.float().cummax(1).values)
        dense = last_writer(writes, found.size)
        return DenseSize(dense, heatmap.dense().amax(1, keepdim=True).expand(-1, 2, -1, -1))

    def decode(self, outputs: CenterNetPointsOutputs, img_size: Size) -> list[InstanceData]:
        """The ``topk`` best peaks of each image, by descending score; nothing is clipped.

        Convention:
            A negative size gives an inverted box, as in the official code. Without an offset
            branch the centre is the middle of its cell.
        """
        heatmap = promote(outputs.heatmap).sigmoid()
        height, width = heatmap.shape[-2:]
        peaks = top_peaks(suppress_non_peaks(heatmap, self.peak_kernel), self.topk)
        size = gather_cells(promote(outputs.size), peaks.index)
        if self.size_target == 'class':
            size = of_class(size, peaks.labels)
        boxes = boxes_around(read_centers(outputs.offset, peaks.index, width), size)
        boxes = scale_boxes(boxes, img_size[1] / width, img_size[0] / height)
        return [
            InstanceData(bboxes=box, scores=score, labels=label)
            for box, score, label in zip(boxes, peaks.scores, peaks.labels, strict=True)
        ]

    def ideal_outputs(self, targets: CenterNetPointsTargets) -> CenterNetPointsOutputs:
        """Logits of the target heatmap, sizes and offsets at the centres."""
        feat_size = targets.heatmap.shape[-2:]
        size = targets.size
        if self.size_target == 'class':
            size = spread_by_class(size, targets.labels, self.num_classes)
        return CenterNetPointsOutputs(
            heatmap=as_logits(targets.heatmap.dense()),
            size=scatter_cells(size, targets.index, targets.mask, feat_size),
            offset=scatter_cells(targets.offset, targets.index, targets.mask, feat_size),
        )
