"""Target encoder of CornerNet-Saccade: valid objects, skipped windows, attention maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core import Ignored, Size, counted_cells, ideal_logits, pad_rows
from mmdet_losses.detectors.corner.contracts import (
    CornerNetSaccadeOutputs,
    CornerNetSaccadeTargets,
)
from mmdet_losses.detectors.corner.corners import CornerTargetEncoder, Objects
from mmdet_losses.ops import Splats, box_center, constant
from mmdet_losses.registry import TASK_UTILS


@TASK_UTILS.register_module()
class CornerNetSaccadeTargetEncoder(
    CornerTargetEncoder[CornerNetSaccadeOutputs, CornerNetSaccadeTargets]
):
    r"""CornerNet on crops: corners of the objects that are visible enough, and attention maps.

    Law et al., *CornerNet-Lite: Efficient Keypoint Based Object Detection*, section 3.

    Ground truth:
        ``bboxes`` in crop pixels, and optionally ``visibility`` (n,), the share of the box's area
        that is in the crop (clipped area / area before any clip, in [0, 1]). Without that field
        it is the share of ``bboxes`` inside the input, so a crop that does not clip its boxes
        need not provide it.

    Convention:
        An object is valid with a visibility above 0.5 and a longest side, between integer corner
        pixels, of ``min_side`` or more. Invalid objects get no target; the heatmap loss skips the
        square windows of their corners in the maps of their own class. Each object, valid or
        not, sets a single cell of an attention map to 1: the integer part of centre / stride, in
        every map whose range of longest sides (both ends included) contains its own.

    Args:
        attention_strides: pixels per cell of each attention map, coarsest first.
        attention_ranges: range of longest sides in pixels of each attention map.
        min_visibility: see above.
        min_side: see above, in pixels.

    The other arguments are those of ``CornerNetTargetEncoder``.

    Encoded:
        :class:`~mmdet_losses.detectors.corner.contracts.CornerNetSaccadeTargets`.
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
        **kwargs: Any,
    ) -> None:
        kwargs.update(num_dets=num_dets, ae_threshold=ae_threshold, no_border=no_border)
        super().__init__(num_classes, topk=topk, **kwargs)
        self.scales = list(zip(attention_strides, attention_ranges, strict=True))
        self.min_visibility, self.min_side = min_visibility, min_side

    def feat_sizes(self, outputs: CornerNetSaccadeOutputs) -> list[Size]:
        """(H, W) of the heatmaps, then of every attention map."""
        maps = (outputs.tl.heatmap, *outputs.attentions)
        return [(int(each.shape[-2]), int(each.shape[-1])) for each in maps]

    def encode(
        self,
        gt_instances: Sequence[InstanceData],
        feat_sizes: Sequence[Size],
        img_size: Size,
        ignored: Ignored = None,
    ) -> CornerNetSaccadeTargets:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`; inputs are not modified.

        ``feat_sizes`` holds the heatmaps' size, then one size per attention map.

        Raises:
            ValueError: the number of sizes is not 1 + the number of attention maps.
        """
        if len(feat_sizes) != 1 + len(self.scales):
            raise ValueError(
                f'CornerNetSaccadeTargetEncoder got {len(feat_sizes)} map sizes but needs '
                f'{1 + len(self.scales)}: one of the heatmaps and one per entry of '
                'attention_strides; set attention_channels of the predictor to match.'
            )
        objects = self.find_objects(gt_instances, feat_sizes[0], img_size, ignored)
        points = self.points(objects)
        low, high = objects.boxes.trunc().unflatten(-1, (2, 2)).unbind(-2)
        visible = _visibility(gt_instances, objects) > self.min_visibility
        valid = objects.usable & visible & ((high - low).amax(-1) >= self.min_side)
        corners = self.corners(objects, valid, points)
        tl_valid, br_valid = self.outside(points, objects, objects.usable & ~valid)
        attentions = self._attentions(objects, feat_sizes[1:])
        return CornerNetSaccadeTargets(
            corners.tl._replace(valid=_both(tl_valid, corners.tl.valid)),
            corners.br._replace(valid=_both(br_valid, corners.br.valid)),
            *corners[2:5],
            weights=corners.weights,
            attentions=attentions,
            attention_valid=None
            if objects.ignored is None
            else tuple(
                counted_cells(each, objects.ignored, img_size, by_class=False)
                for each in attentions
            ),
        )

    def _attentions(self, objects: Objects, sizes: Sequence[Size]) -> tuple[Splats, ...]:
        """Targets of the attention maps: ones at the centres of the objects of each scale."""
        batch, (strides, ranges) = len(objects.boxes), zip(*self.scales, strict=True)
        cells = [batch * height * width for height, width in sizes]
        starts = [sum(cells[:scale]) for scale in range(len(cells) + 1)]
        like = objects.labels
        place = [
            [[start + image * size[0] * size[1]] for image in range(batch)]
            for start, size in zip(starts, sizes, strict=False)
        ]
        centers = box_center(objects.boxes).double()
        cell = (centers / constant([[[[each]]] for each in strides], centers)).long()
        inside = (cell < constant([[[size[::-1]]] for size in sizes], like)).all(-1)
        longest = objects.size.amax(-1)
        least, most = constant(ranges, longest).t()[:, :, None, None]
        chosen = inside & objects.usable & (longest >= least) & (longest <= most)
        width = constant([[[size[1]]] for size in sizes], like)
        index = cell[..., 1] * width + cell[..., 0] + constant(place, like)
        index = torch.where(chosen, index, constant(starts[-1], like))
        marked = objects.boxes.new_zeros(starts[-1] + 1).scatter_(0, index.flatten(), 1.0)
        maps = marked[:-1].split(cells)
        shapes = [(batch, 1, *size) for size in sizes]
        return tuple(
            Splats(None, each.view(shape), shape)  # type: ignore[arg-type]
            for each, shape in zip(maps, shapes, strict=True)
        )

    def ideal_outputs(self, targets: CornerNetSaccadeTargets) -> CornerNetSaccadeOutputs:
        """As CornerNet's, and logits of the attention maps."""
        attentions = tuple(ideal_logits(each) for each in targets.attentions)
        return CornerNetSaccadeOutputs(*self.ideal_corners(targets), attentions)


def _visibility(gt_instances: Sequence[InstanceData], objects: Objects) -> Tensor:
    """(B, M) shares of the boxes' areas: the ground truth's field, or the share inside."""
    inside = objects.inside()
    shares = [
        each.visibility.to(inside) if 'visibility' in each else own[: len(each)]
        for each, own in zip(gt_instances, inside, strict=True)
    ]
    return pad_rows(shares, inside.shape[1])


def _both(first: Tensor, second: Tensor | None) -> Tensor:
    return first if second is None else first * second  # the second may be float weights
