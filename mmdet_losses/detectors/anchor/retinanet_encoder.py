"""Target encoder of RetinaNet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core import (
    Detections,
    Ignored,
    Size,
    TargetEncoder,
    best_detections,
    check_channels,
    check_levels,
    check_positive,
    pad_instances,
    split_images,
    usable_boxes,
)
from mmdet_losses.detectors.anchor.common import (
    anchor_weights,
    hide_anchors,
    ideal_maps,
    positive_deltas,
)
from mmdet_losses.detectors.anchor.contracts import RetinaNetOutputs, RetinaNetTargets
from mmdet_losses.ops import (
    AnchorMatch,
    AnchorTable,
    BoxCode,
    Extents,
    GridAnchors,
    best_logits,
    cell_major_rank,
    check_choice,
    constant,
    flatten_levels,
    made_once,
    match_detectron,
    match_max_iou,
    promote,
)
from mmdet_losses.registry import TASK_UTILS

MAX_LOG = abs(math.log(16 / 1000))
"""Limit of the logarithms of decoded sizes, MMDetection's ``wh_ratio_clip``."""


@TASK_UTILS.register_module()
class RetinaNetTargetEncoder(TargetEncoder[RetinaNetOutputs, RetinaNetTargets]):
    r"""RetinaNet's anchors, matched by IoU, with centre shifts and log sizes in anchor units.

    By default equal to MMDetection's RetinaHead (anchor centres at multiples of the stride).

    Convention:
        An anchor is positive if its IoU is at least ``positive_iou``, and negative below
        ``negative_iou``. The anchors with the highest IoU of an object are positive too. Unlike
        MMDetection, an object that overlaps no anchor gets none (MMDetection gives it every
        anchor without overlap), and anchors in the padding of a smaller image of the batch count
        as background. 'detectron' assigns as Detectron does, see
        :func:`~mmdet_losses.ops.matching.match_detectron`.

    Args:
        num_classes: C.
        strides: pixels, a number or (x, y) per level.
        octave_base_scale: anchor size in strides.
        scales_per_octave: number of anchor sizes per octave.
        ratios: height over width.
        positive_iou, negative_iou: thresholds.
        min_pos_iou: lowest IoU of the anchors that are positive only because no other anchor has a
            higher IoU with an object.
        match_low_quality: False: there are no such anchors.
        gt_max_assign_all: False: of several anchors with the highest IoU only the first one, in
            MMDetection's order.
        target_stds: divisors of the four deltas.
        center_offset: shift of the centres in strides, as in MMDetection's ``AnchorGenerator``.
        convention: 'mmdet' or 'detectron', see above; 'detectron' needs the defaults of
            ``min_pos_iou``, ``match_low_quality`` and ``gt_max_assign_all``.
        score_thr: :meth:`decode` drops scores that are not above this.
        topk: best (anchor, class) pairs per level that :meth:`decode` keeps; None keeps all.
        ignore_iof_thr: an anchor with a larger share of its area in an ignored region is neither
            positive nor negative; negative values disable this. As in MMDetection.

    Encoded:
        :class:`~mmdet_losses.detectors.anchor.contracts.RetinaNetTargets`.

    Raises:
        ValueError: a wrong number of maps, or a negative threshold above the positive one.

    Reference:
        Lin et al., *Focal Loss for Dense Object Detection*, 2017, section 4.
    """

    outputs_type = RetinaNetOutputs

    def __init__(
        self,
        num_classes: int,
        strides: Sequence[float | tuple[float, float]] = (8, 16, 32, 64, 128),
        octave_base_scale: float = 4,
        scales_per_octave: int = 3,
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        positive_iou: float = 0.5,
        negative_iou: float = 0.4,
        score_thr: float = 0.05,
        topk: int | None = 1000,
        ignore_iof_thr: float = 0.5,
        min_pos_iou: float = 0.0,
        match_low_quality: bool = True,
        target_stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        center_offset: float = 0.0,
        convention: Literal['mmdet', 'detectron'] = 'mmdet',
        gt_max_assign_all: bool = True,
    ) -> None:
        check_choice('convention', convention, ('mmdet', 'detectron'))
        check_positive('target_stds', target_stds)
        plain = min_pos_iou <= 0 and match_low_quality and gt_max_assign_all
        if convention == 'detectron' and not plain:
            raise ValueError(
                "convention='detectron' has its own rule for anchors below negative_iou; remove "
                'min_pos_iou, match_low_quality and gt_max_assign_all.'
            )
        if negative_iou > positive_iou:
            raise ValueError(
                f'negative_iou={negative_iou} is above positive_iou={positive_iou}; an anchor '
                'cannot be both. Give a lower negative_iou.'
            )
        check_positive('ratios', ratios)
        check_positive('octave_base_scale', [octave_base_scale])
        self.num_classes, self.strides = num_classes, tuple(strides)
        self.scales = [
            octave_base_scale * 2 ** (i / scales_per_octave) for i in range(scales_per_octave)
        ]
        self.ratios = tuple(ratios)
        self.positive_iou, self.negative_iou = positive_iou, negative_iou
        self.score_thr, self.topk = score_thr, topk
        self.ignore_iof_thr, self.convention = ignore_iof_thr, convention
        self.min_pos_iou, self.match_low_quality = min_pos_iou, match_low_quality
        self.gt_max_assign_all = gt_max_assign_all
        self.target_stds, self.center_offset = tuple(target_stds), center_offset

    def anchors(
        self, feat_sizes: Sequence[Size], device: torch.device | str = 'cpu'
    ) -> list[GridAnchors]:
        """Anchors of every level, float32 pixels."""
        check_levels(len(feat_sizes), len(self.strides), 'strides')
        return [
            self._level(stride, size, device)
            for stride, size in zip(self.strides, feat_sizes, strict=True)
        ]

    def _level(
        self, stride: float | tuple[float, float], feat_size: Size, device: torch.device | str
    ) -> GridAnchors:
        pair = stride if isinstance(stride, tuple | list) else (stride, stride)
        kind = torch.empty(0, dtype=torch.float32, device=device)
        tall = constant(self.ratios, kind).sqrt()[:, None]
        scales = constant(self.scales, kind)
        base = min(pair)
        axes = []
        for factor, step, cells in zip((1 / tall, tall), pair, feat_size[::-1], strict=True):
            half = 0.5 * (base * factor * scales).reshape(-1, 1)
            shift = torch.arange(cells, device=device, dtype=torch.float32) * step
            shift = shift + self.center_offset * base
            axes.append(Extents.between(shift - half, shift + half))
        return GridAnchors(*axes)

    def _match(
        self, iou: Tensor, shapes: Sequence[tuple[int, int, int]]
    ) -> tuple[AnchorMatch, Tensor]:
        """The match, and (B,) the number of anchors that the divisor counts."""
        limits = self.positive_iou, self.negative_iou
        if self.convention == 'detectron':
            return match_detectron(iou, *limits)
        rank = None if self.gt_max_assign_all else cell_major_rank(shapes, iou.device)
        match = match_max_iou(iou, *limits, self.min_pos_iou, self.match_low_quality, rank)
        return match, match.positive.sum(1)

    @made_once(16)
    def table(self, feat_sizes: Sequence[Size], device: torch.device) -> AnchorTable:
        """Anchors of all levels, in input pixels."""
        return AnchorTable.of(self.anchors(feat_sizes, device))

    def box_code(self, table: AnchorTable) -> BoxCode:
        """Deltas relative to the anchors of a table."""
        return BoxCode(table.anchors, self.target_stds, MAX_LOG)

    def feat_sizes(self, outputs: RetinaNetOutputs) -> list[Size]:
        """(H, W) of the maps, whose channels must fit anchors and classes."""
        counts = [len(self.scales) * len(self.ratios)] * len(self.strides)
        check_channels(outputs.cls, counts, self.num_classes, 'classes')
        check_channels(outputs.box, counts, 4, 'boxes')
        return super().feat_sizes(outputs)

    def encode(
        self,
        gt_instances: Sequence[InstanceData],
        feat_sizes: Sequence[Size],
        img_size: Size,
        ignored: Ignored = None,
    ) -> RetinaNetTargets:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`; inputs are not modified."""
        padded = pad_instances(gt_instances)
        boxes, labels, mask = usable_boxes(padded, img_size, self.num_classes)
        table = self.table(tuple(feat_sizes), boxes.device)
        iou, hidden = hide_anchors(
            table.iou(boxes), ignored, table.levels, self.ignore_iof_thr, img_size
        )
        match, counts = self._match(iou, table.shapes)
        code = self.box_code(table)
        positive, counted = match.positive, match.positive | match.negative
        if hidden is not None:
            positive, counted = positive & ~hidden, counted & ~hidden
            counts = positive.sum(1)
        own = labels.gather(1, match.index)
        return RetinaNetTargets(
            labels=torch.where(positive, own, constant(self.num_classes, own)),
            box=positive_deltas(code, boxes, match.index, positive),
            mask=positive,
            counted=counted,
            code=code,
            counts=counts,
            shapes=table.shapes,
            num_pos=positive.sum(dtype=torch.float32),
            num_dropped=padded.count - mask.sum(dtype=torch.float32),
            weights=anchor_weights(padded.weights, match.index, positive),
        )

    def decode(self, outputs: RetinaNetOutputs, img_size: Size) -> list[InstanceData]:
        """The ``topk`` best (anchor, class) pairs of each level, boxes clipped to the image."""
        code = self.box_code(self.table(self.feat_sizes(outputs), outputs.cls[0].device))
        if outputs.cls[0].device.type != 'cpu':
            return self._decode_all(outputs, code, img_size)
        images = range(len(outputs.cls[0]))
        return [self._decode_image(outputs, code, image, img_size) for image in images]

    def _decode_image(
        self, outputs: RetinaNetOutputs, code: BoxCode, image: int, img_size: Size
    ) -> InstanceData:
        parts, start = [], 0
        for cls, box in zip(outputs.cls, outputs.box, strict=True):
            cells = cls.shape[2:].numel()
            scores, index = best_logits(cls[image].flatten(), self.score_thr, self.topk)
            pair, cell = index.div(cells, rounding_mode='floor'), index % cells
            anchor = pair.div(self.num_classes, rounding_mode='floor')
            deltas = promote(box[image].reshape(-1, 4, cells)[anchor, :, cell])
            boxes = code.at(start + anchor * cells + cell).decode(deltas)
            parts.append((boxes, scores, pair % self.num_classes))
            start += box.shape[1] // 4 * cells
        boxes, scores, labels = (torch.cat(each) for each in zip(*parts, strict=True))
        boxes = torch.minimum(boxes.clamp(min=0), constant([*img_size[::-1]] * 2, boxes))
        return InstanceData(bboxes=boxes, scores=scores, labels=labels)

    def _decode_all(
        self, outputs: RetinaNetOutputs, code: BoxCode, img_size: Size
    ) -> list[InstanceData]:
        """All images together, with a score of -1 where it is not above the threshold."""
        parts, start = [], 0
        for cls in outputs.cls:
            cells = cls.shape[2:].numel()
            scores, index = best_logits(cls.flatten(1), self.score_thr, self.topk)
            pair = index.div(cells, rounding_mode='floor')
            anchor = pair.div(self.num_classes, rounding_mode='floor')
            parts.append((scores, start + anchor * cells + index % cells, pair % self.num_classes))
            start += cls.shape[1] // self.num_classes * cells
        scores, chosen, labels = (torch.cat(each, 1) for each in zip(*parts, strict=True))
        deltas = flatten_levels(outputs.box, 4).gather(1, chosen[..., None].expand(-1, -1, 4))
        boxes = code.at(chosen).decode(promote(deltas))
        boxes = torch.minimum(boxes.clamp(min=0), constant([*img_size[::-1]] * 2, boxes))
        return split_images(bboxes=boxes, scores=scores, labels=labels)

    def decode_tensors(
        self, outputs: RetinaNetOutputs, img_size: Size, limit: int = 1000
    ) -> Detections:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`; all levels share ``limit``."""
        code = self.box_code(self.table(self.feat_sizes(outputs), outputs.cls[0].device))
        scores = promote(flatten_levels(outputs.cls, self.num_classes)).sigmoid()
        boxes = code.decode(promote(flatten_levels(outputs.box, 4)))
        boxes = torch.minimum(boxes.clamp(min=0), constant([*img_size[::-1]] * 2, boxes))
        return best_detections(boxes, scores, limit, self.score_thr)

    def ideal_outputs(self, targets: RetinaNetTargets) -> RetinaNetOutputs:
        """Certain class logits and the encoded boxes; ignored anchors are background."""
        return RetinaNetOutputs(*ideal_maps(targets, self.num_classes))

    def positive_boxes(
        self, targets: RetinaNetTargets, feat_sizes: Sequence[Size], img_size: Size
    ) -> Tensor:
        """The positive anchors of the first image: (n, 4) xyxy pixels."""
        levels = self.anchors(feat_sizes, targets.mask.device)
        return torch.cat([level.xyxy() for level in levels])[targets.mask[0]]
