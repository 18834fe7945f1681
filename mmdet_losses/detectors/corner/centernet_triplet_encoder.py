"""Target encoder of CenterNet keypoint triplets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData

from mmdet_losses.core import Ignored, Size, ideal_logits
from mmdet_losses.detectors.corner.contracts import (
    CenterKeypoint,
    CenterNetTripletOutputs,
    CenterNetTripletTargets,
)
from mmdet_losses.detectors.corner.corners import CornerTargetEncoder
from mmdet_losses.detectors.corner.decode import (
    CenterCandidates,
    CornerPairs,
    concat_views,
    pair_corners,
    reject_outside,
    top_centers,
    verify_centers,
)
from mmdet_losses.detectors.corner.views import InputView
from mmdet_losses.ops import box_center, scatter_cells
from mmdet_losses.registry import TASK_UTILS


@TASK_UTILS.register_module()
class CenterNetTripletTargetEncoder(
    CornerTargetEncoder[CenterNetTripletOutputs, CenterNetTripletTargets]
):
    r"""Two corners, and the centre that must confirm them.

    Duan et al., *CenterNet: Keypoint Triplets for Object Detection*, section 3.

    Convention:
        As :class:`~mmdet_losses.detectors.corner.cornernet_encoder.CornerNetTargetEncoder`, with
        the legacy radius formula at an IoU of 0.7. The centre's Gaussian has the corners' window
        and a standard deviation of a fifth of it, not a sixth. Decoding:
        :func:`~mmdet_losses.detectors.corner.decode.verify_centers`; its area threshold applies
        to the box in input pixels.

    The arguments are those of ``CornerNetTargetEncoder``; ``topk`` also counts centres.

    Encoded:
        :class:`~mmdet_losses.detectors.corner.contracts.CenterNetTripletTargets`.
    """

    outputs_type = CenterNetTripletOutputs
    default_radius = {'mode': 'legacy', 'min_overlap': 0.7}

    def __init__(self, num_classes: int, topk: int = 70, **kwargs: Any) -> None:
        super().__init__(num_classes, topk=topk, **kwargs)

    def encode(
        self,
        gt_instances: Sequence[InstanceData],
        feat_sizes: Sequence[Size],
        img_size: Size,
        ignored: Ignored = None,
    ) -> CenterNetTripletTargets:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`; inputs are not modified."""
        objects = self.find_objects(gt_instances, feat_sizes[0], img_size, ignored)
        mask, num_pos, dropped = self.kept(objects, objects.usable)
        corners, center = objects.boxes.unflatten(-1, (2, 2)), box_center(objects.boxes)
        points = self.points(objects, torch.cat((corners, center[:, :, None]), 2))
        tl, br, middle = self.keypoints(points, objects, mask, (6.0, 6.0, 5.0))
        return CenterNetTripletTargets(tl, br, mask, num_pos, dropped, middle, objects.weights)

    def pairs_of_views(
        self, outputs: Sequence[CenterNetTripletOutputs], views: Sequence[InputView]
    ) -> CornerPairs:
        """Pairs that a centre confirms; the centres are those of the views at scale 1.

        Without a view at scale 1 (the official code needs one) the centres of all views count.
        """
        every = list(zip(outputs, views, strict=True))
        pairs = concat_views([self.pairs(*each) for each in every])
        unscaled = [each for each in every if each[1].scale == (1, 1)] or every
        centers = concat_views([self._centers(*each) for each in unscaled])
        return verify_centers(pairs, centers)

    def pairs(self, outputs: CenterNetTripletOutputs, view: InputView) -> CornerPairs:
        """As CornerNet's, without boxes that lie outside the view by 5 pixels or more."""
        in_cells = pair_corners(outputs.tl, outputs.br, self.pairing)
        [size] = self.feat_sizes(outputs)
        inside = view.contains(in_cells.boxes, size, margin=5)
        pairs = in_cells._replace(boxes=view.to_image(in_cells.boxes, size))
        return reject_outside(pairs, inside)

    def _centers(self, outputs: CenterNetTripletOutputs, view: InputView) -> CenterCandidates:
        """Centre candidates of one view, in image pixels."""
        centers = top_centers(outputs.center, self.topk, self.pairing.peak_kernel)
        [size] = self.feat_sizes(outputs)
        return centers._replace(xy=view.from_resized(view.to_resized(centers.xy, size)))

    def ideal_outputs(self, targets: CenterNetTripletTargets) -> CenterNetTripletOutputs:
        """As CornerNet's, and logits and offsets of the centres."""
        heatmap, index, offset, _ = targets.center
        offset = scatter_cells(offset, index, targets.mask, heatmap.shape[-2:])
        center = CenterKeypoint(ideal_logits(heatmap), offset)
        return CenterNetTripletOutputs(*self.ideal_corners(targets), center)
