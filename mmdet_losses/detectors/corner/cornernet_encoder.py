"""Target encoder of CornerNet and CornerNet-Squeeze."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.structures import InstanceData

from mmdet_losses.core import Ignored, Size
from mmdet_losses.detectors.corner.contracts import CornerNetOutputs, CornerNetTargets
from mmdet_losses.detectors.corner.corners import CornerTargetEncoder
from mmdet_losses.registry import TASK_UTILS


@TASK_UTILS.register_module()
class CornerNetTargetEncoder(CornerTargetEncoder[CornerNetOutputs, CornerNetTargets]):
    r"""An object as its top-left and bottom-right corner, joined by equal embeddings.

    Each corner has a Gaussian at its cell, a sub-cell offset, and the embedding of its object.
    Law and Deng, *CornerNet: Detecting Objects as Paired Keypoints*, section 3.

    Convention:
        Boxes are clipped to [0, w - 1] x [0, h - 1]. Cells are the integer part of pixels times
        map size / input size (128/511, not 1/4), computed in float64 as in the official code.
        The radius is that of the box in cells, sides rounded up. Objects with a corner in the
        same cell share its embedding and offset, so only one of them is decoded.

    Args:
        num_classes: C.
        max_objects: number of usable annotations per image that get a target, the first ones.
        radius: ``dict(mode='fixed' | 'legacy', min_overlap=...)``, or a number of cells for every
            object (0 writes single ones). Default: the detector's own.
        topk: corners of each kind that are paired; any number from 1.
        num_dets: pairs per image before post-processing.
        ae_threshold: corners whose embeddings differ by more are not a pair.
        peak_kernel: odd window in which a corner must be the maximum; 1 keeps every cell.
        no_border: drop pairs whose top-left cell is in the first row or column, or whose
            bottom-right cell is in the last.

    Encoded:
        :class:`~mmdet_losses.detectors.corner.contracts.CornerNetTargets`.
    """

    outputs_type = CornerNetOutputs
    default_radius = {'mode': 'fixed', 'min_overlap': 0.3}

    def encode(
        self,
        gt_instances: Sequence[InstanceData],
        feat_sizes: Sequence[Size],
        img_size: Size,
        ignored: Ignored = None,
    ) -> CornerNetTargets:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`; inputs are not modified."""
        objects = self.find_objects(gt_instances, feat_sizes[0], img_size, ignored)
        return self.corners(objects, objects.usable, self.points(objects))

    def ideal_outputs(self, targets: CornerNetTargets) -> CornerNetOutputs:
        """Logits of the heatmaps, offsets at the corners, and embeddings at least 1 apart."""
        return CornerNetOutputs(*self.ideal_corners(targets))
