"""CornerNet-Saccade's target encoder: valid objects, masked windows, attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core import Size
from mmdet_losses.detectors.corner.contracts import (
    CornerNetSaccadeOutputs,
    CornerNetSaccadeTargets,
)
from mmdet_losses.detectors.corner.encoders import CornerNetTargetEncoder, Objects
from mmdet_losses.ops import Splats, box_center, box_size, splat_gaussians
from mmdet_losses.registry import TASK_UTILS


@TASK_UTILS.register_module()
class CornerNetSaccadeTargetEncoder(CornerNetTargetEncoder):
    r"""CornerNet on crops: corners of the objects that the crop shows well, and where objects are.

    Law et al., *CornerNet-Lite: Efficient Keypoint Based Object Detection*, section 3.

    Ground truth:
        ``bboxes`` in crop pixels, and optionally ``visibility`` (n,), the share of the box's area
        that the crop left (clipped area / area before any clip, in [0, 1]). Without that field it
        is the share of ``bboxes`` that lies inside the input, so a crop that does not clip its
        boxes need not provide it.

    Convention:
        An object is valid with a visibility above 0.5 and a longest side, between integer corner
        pixels, of ``min_side`` or more. Invalid objects get no target; the square windows of
        their corners, in the maps of their own class, do not count in the heatmap loss.
        Attention is a single one per object, valid or not, at the integer part of centre /
        stride in every map whose range of longest sides, both ends included, holds its own.

    Args:
        attention_strides: pixels a cell of each attention map, coarsest first.
        attention_ranges: longest sides in pixels that each attention map stands for.
        min_visibility: see above.
        min_side: see above, in pixels.

    The other arguments are those of :class:`CornerNetTargetEncoder`.
    """

    outputs_type = CornerNetSaccadeOutputs
    default_radius = {'mode': 'fixed', 'min_overlap': 0.5}

    def __init__(
        self,
        num_classes: int,
        attention_strides: Sequence[int] = (16, 8, 4),
        attention_ranges: Sequence[tuple[float, float]] = ((96, 256), (32, 96), (0, 32)),
        min_visibility: float = 0.5,
        min_side: int = 16,
        topk: int = 12,
        num_dets: int = 12,
        ae_threshold: float = 0.3,
        no_border: bool = True,
        **kwargs: object,
    ) -> None:
        super().__init__(
            num_classes,
            topk=topk,
            num_dets=num_dets,
            ae_threshold=ae_threshold,
            no_border=no_border,
            **kwargs,
        )
        self.scales = list(zip(attention_strides, attention_ranges, strict=True))
        self.min_visibility, self.min_side = min_visibility, min_side

    def feat_sizes(self, outputs: CornerNetSaccadeOutputs) -> list[Size]:
        """(H, W) of the heatmaps, then of every attention map."""
        maps = (outputs.tl_heatmap, *outputs.attentions)
        return [(int(each.shape[-2]), int(each.shape[-1])) for each in maps]

    def encode(
        self, gt_instances: Sequence[InstanceData], feat_sizes: Sequence[Size], img_size: Size
    ) -> CornerNetSaccadeTargets:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`; inputs are not modified.

        ``feat_sizes`` holds the heatmaps' size, then one size per attention map.

        Raises:
            ValueError: the number of sizes does not match the attention scales.
        """
        if len(feat_sizes) != 1 + len(self.scales):
            raise ValueError(
                f'CornerNetSaccadeTargetEncoder got {len(feat_sizes)} map sizes and needs '
                f"{1 + len(self.scales)}: the heatmaps' and one for each of its "
                'attention_strides; make them agree with the predictor.'
            )
        objects = self._objects(gt_instances, feat_sizes[0], img_size)
        low, high = objects.boxes.trunc().unflatten(-1, (2, 2)).unbind(-2)
        shown = self._visibility(gt_instances, objects) > self.min_visibility
        valid = objects.usable & shown & ((high - low).amax(-1) >= self.min_side)
        invalid = objects.usable & ~valid
        return CornerNetSaccadeTargets(
            **self._corners(objects, valid),
            tl_valid=self._countable('tl', objects.boxes[..., :2], objects, invalid),
            br_valid=self._countable('br', objects.boxes[..., 2:], objects, invalid),
            attentions=tuple(
                self._attention(objects, size, *scale)
                for size, scale in zip(feat_sizes[1:], self.scales, strict=True)
            ),
        )

    def _visibility(self, gt_instances: Sequence[InstanceData], objects: Objects) -> Tensor:
        """(B, M), from the ground truth's field or from the clip to the input."""
        share = objects.inside
        for image, instances in enumerate(gt_instances):
            if 'visibility' in instances:
                given = instances.visibility.to(share)
                share = torch.cat(
                    (
                        share[:image],
                        F.pad(given, (0, share.shape[1] - len(given)))[None],
                        share[image + 1 :],
                    )
                )
        return share

    def _countable(self, name: str, xy: Tensor, objects: Objects, invalid: Tensor) -> Tensor:
        """(B, C, H, W) bool, false in the windows of the invalid objects."""
        windows = self._point(name, xy, objects, invalid)[f'{name}_heatmap']
        if windows.drawn:
            return windows.value == 0
        cells = math.prod(windows.shape)
        index = torch.where(windows.value > 0, windows.index, cells)
        valid = torch.ones(cells + 1, dtype=torch.bool, device=xy.device)
        return valid.scatter_(0, index, False)[:cells].view(windows.shape)

    def _attention(
        self, objects: Objects, size: Size, stride: int, sides: tuple[float, float]
    ) -> Splats:
        cell = (box_center(objects.boxes).double() / stride).long()
        longest = box_size(objects.boxes).amax(-1)
        chosen = objects.usable & (longest >= sides[0]) & (longest <= sides[1])
        chosen = chosen & (cell[..., 0] < size[1]) & (cell[..., 1] < size[0])
        alone = torch.zeros_like(longest)
        return splat_gaussians(
            cell, alone, alone + 1, torch.zeros_like(objects.labels), chosen, (1, *size), 0
        )

    def ideal_outputs(self, targets: CornerNetSaccadeTargets) -> CornerNetSaccadeOutputs:
        """As CornerNet's, and logits of the attention maps."""
        attentions = tuple(torch.logit(each.dense(), eps=1e-6) for each in targets.attentions)
        return CornerNetSaccadeOutputs(**self._ideal(targets), attentions=attentions)
