"""Target encoders of the anchor family."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core import Size, TargetEncoder, pad_instances
from mmdet_losses.detectors.anchor.contracts import (
    RetinaNetOutputs,
    RetinaNetTargets,
    SSDOutputs,
    SSDTargets,
)
from mmdet_losses.ops import (
    Extents,
    GridAnchors,
    cell_major_rank,
    constant,
    decode_deltas,
    encode_deltas,
    flatten_levels,
    grid_iou,
    is_proper,
    match_forced_best,
    match_max_iou,
    promote,
    scale_boxes,
    unflatten_levels,
)
from mmdet_losses.registry import TASK_UTILS

IDEAL_LOGIT = 12.0


@TASK_UTILS.register_module()
class SSDTargetEncoder(TargetEncoder[SSDOutputs, SSDTargets]):
    r"""SSD: prior boxes matched by jaccard overlap, shifts and log sizes over the variances.

    Liu et al., *SSD: Single Shot MultiBox Detector*, section 2.2; numbers of ssd.pytorch.

    Convention:
        Boxes are fractions of the image. Priors of a cell: the square of ``min_sizes``, that of
        the geometric mean of ``min_sizes`` and ``max_sizes``, then for each aspect ratio the wide
        and the tall one. Official priors are clipped as (cx, cy, w, h), which moves centres and
        cuts sizes but leaves boxes that stick out; MMDetection's are not (``clip=False``). An
        image without objects is background; the official code raises there.

    Args:
        num_classes: C, without the background.
        min_sizes, max_sizes: pixels, one of each a level; defaults are SSD300's for VOC.
        strides: pitch of each level in pixels, a number or (x, y); None divides the image evenly.
        aspect_ratios: additional ratios of each level.
        clip: clip priors as the official code does.
        variances: divisors of shifts and of logarithms.
        positive_iou: a prior is positive from this overlap on.
        score_thr: scores that decode to a box exceed it.
        topk: best boxes of each class that leave :meth:`decode`; None keeps all.

    Raises:
        ValueError: tables of different lengths, or not as many levels as maps.
    """

    outputs_type = SSDOutputs

    def __init__(
        self,
        num_classes: int,
        min_sizes: Sequence[float] = (30, 60, 111, 162, 213, 264),
        max_sizes: Sequence[float] = (60, 111, 162, 213, 264, 315),
        strides: Sequence[float | tuple[float, float]] | None = (8, 16, 32, 64, 100, 300),
        aspect_ratios: Sequence[Sequence[float]] = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
        clip: bool = True,
        variances: tuple[float, float] = (0.1, 0.2),
        positive_iou: float = 0.5,
        score_thr: float = 0.01,
        topk: int | None = 200,
    ) -> None:
        levels = len(min_sizes)
        tables = dict(max_sizes=max_sizes, aspect_ratios=aspect_ratios, strides=strides)
        for name, table in tables.items():
            if table is not None and len(table) != levels:
                raise ValueError(
                    f'{name} has {len(table)} entries but min_sizes {levels}; give one a level.'
                )
        positive('min_sizes', min_sizes)
        positive('max_sizes', max_sizes)
        positive('aspect_ratios', [ratio for level in aspect_ratios for ratio in level])
        self.num_classes, self.clip, self.variances = num_classes, clip, tuple(variances)
        self.min_sizes, self.max_sizes = tuple(min_sizes), tuple(max_sizes)
        self.strides, self.aspect_ratios = strides, tuple(aspect_ratios)
        self.positive_iou, self.score_thr, self.topk = positive_iou, score_thr, topk

    def priors(
        self, feat_sizes: Sequence[Size], img_size: Size, device: torch.device | str = 'cpu'
    ) -> list[GridAnchors]:
        """The priors of every level, float32 fractions of the image."""
        if len(feat_sizes) != len(self.min_sizes):
            raise ValueError(
                f'The network returns {len(feat_sizes)} maps but min_sizes has '
                f'{len(self.min_sizes)} entries; make them equal.'
            )
        return [
            self._level(level, feat_size, img_size, device)
            for level, feat_size in enumerate(feat_sizes)
        ]

    def _level(
        self, level: int, feat_size: Size, img_size: Size, device: torch.device | str
    ) -> GridAnchors:
        small, large = self.min_sizes[level], self.max_sizes[level]
        shapes = [(small, small), (math.sqrt(small * large),) * 2]
        for ratio in self.aspect_ratios[level]:
            root = math.sqrt(ratio)
            shapes += [(small * root, small / root), (small / root, small * root)]
        axes = []
        for axis, (cells, length) in enumerate(zip(feat_size[::-1], img_size[::-1], strict=True)):
            stride = length / cells
            if self.strides is not None:
                given = self.strides[level]
                stride = given[axis] if isinstance(given, tuple | list) else given
            kind = dict(dtype=torch.float64, device=device)
            center = (torch.arange(cells, **kind) + 0.5) * stride / length
            size = constant([shape[axis] / length for shape in shapes], center)
            center = center.float().expand(len(shapes), -1)
            size = size.float()[:, None].expand(-1, cells)
            if self.clip:
                center, size = center.clamp(0, 1), size.clamp(0, 1)
            axes.append(Extents.around(center, size))
        return GridAnchors(*axes)

    def feat_sizes(self, outputs: SSDOutputs) -> list[Size]:
        """(H, W) of the maps, whose channels must fit priors and classes."""
        counts = [2 + 2 * len(ratios) for ratios in self.aspect_ratios]
        check_depth(outputs.cls, counts, self.num_classes + 1, 'classes')
        check_depth(outputs.box, counts, 4, 'boxes')
        return super().feat_sizes(outputs)

    def encode(
        self, gt_instances: Sequence[InstanceData], feat_sizes: Sequence[Size], img_size: Size
    ) -> SSDTargets:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`; inputs are not modified."""
        padded = pad_instances(gt_instances)
        boxes, labels, mask = usable(padded, img_size, self.num_classes)
        boxes = scale_boxes(boxes, 1 / img_size[1], 1 / img_size[0])
        levels = self.priors(feat_sizes, img_size, boxes.device)
        shapes = tuple(level.shape for level in levels)
        iou = torch.cat([grid_iou(boxes, level) for level in levels], -1)
        rank = cell_major_rank(shapes, boxes.device)
        match = match_forced_best(iou, mask, rank, self.positive_iou)
        any_object = mask.any(1)[:, None]
        positive = match.positive & any_object
        own = labels.gather(1, match.index)
        code = encode_deltas(
            boxes.gather(1, match.index[..., None].expand(-1, -1, 4)),
            torch.cat([level.cxcywh() for level in levels]),
            self.variances,
        )
        num_pos = positive.sum().float()
        return SSDTargets(
            labels=torch.where(positive, own, self.num_classes),
            box=torch.where(any_object[..., None], code, 0),
            mask=positive,
            shapes=shapes,
            num_pos=num_pos,
            num_dropped=(padded.real.sum() - mask.sum()).float(),
        )

    def decode_all(self, outputs: SSDOutputs, img_size: Size) -> tuple[Tensor, Tensor]:
        """Boxes (B, P, 4) xyxy pixels, not clipped, and scores (B, P, C) of every prior."""
        sizes = self.feat_sizes(outputs)
        scores = promote(flatten_levels(outputs.cls, self.num_classes + 1)).softmax(-1)
        codes = promote(flatten_levels(outputs.box, 4))
        priors = [level.cxcywh() for level in self.priors(sizes, img_size, codes.device)]
        boxes = decode_deltas(codes, torch.cat(priors), self.variances, max_log=20)
        return scale_boxes(boxes, img_size[1], img_size[0]), scores[..., :-1]

    def decode(self, outputs: SSDOutputs, img_size: Size) -> list[InstanceData]:
        """The ``topk`` best boxes of each class above ``score_thr``, by class; not clipped."""
        boxes, scores = self.decode_all(outputs, img_size)
        topk = boxes.shape[1] if self.topk is None else min(self.topk, boxes.shape[1])
        best, index = scores.transpose(1, 2).topk(topk)  # (B, C, K)
        labels = torch.arange(self.num_classes, device=boxes.device)[:, None].expand(-1, topk)
        results = []
        for box, score, rows in zip(boxes, best, index, strict=True):
            kept = score > self.score_thr
            results.append(
                InstanceData(bboxes=box[rows[kept]], scores=score[kept], labels=labels[kept])
            )
        return results

    def ideal_outputs(self, targets: SSDTargets) -> SSDOutputs:
        """Sure of every label, with the encoded boxes."""
        classes = torch.arange(self.num_classes + 1, device=targets.labels.device)
        sure = (targets.labels[..., None] == classes) * IDEAL_LOGIT * 2
        return SSDOutputs(
            cls=unflatten_levels(sure - IDEAL_LOGIT, targets.shapes),
            box=unflatten_levels(targets.box, targets.shapes),
        )

    def positive_boxes(
        self, targets: SSDTargets, feat_sizes: Sequence[Size], img_size: Size
    ) -> Tensor:
        """The positive priors of the first image: (n, 4) xyxy pixels."""
        levels = self.priors(feat_sizes, img_size, targets.mask.device)
        priors = torch.cat([level.xyxy() for level in levels])[targets.mask[0]]
        return scale_boxes(priors, img_size[1], img_size[0])


@TASK_UTILS.register_module()
class RetinaNetTargetEncoder(TargetEncoder[RetinaNetOutputs, RetinaNetTargets]):
    r"""RetinaNet: anchors matched by overlap, shifts and log sizes in anchor units.

    Lin et al., *Focal Loss for Dense Object Detection*, section 4; equal to MMDetection's
    RetinaHead (anchor centres at multiples of the stride).

    Convention:
        Positive from an IoU of ``positive_iou`` on, negative below ``negative_iou``; the anchors
        with an object's highest overlap are positive as well. Unlike MMDetection, an object that
        no anchor touches takes none (there it would take all anchors that nothing touches), and
        anchors in the padding of a smaller image of the batch count as background.

    Args:
        num_classes: C.
        strides: pixels, a number or (x, y) a level.
        octave_base_scale: anchor size in strides.
        scales_per_octave: sizes between one octave and the next.
        ratios: height over width.
        positive_iou, negative_iou: thresholds.
        score_thr: scores that decode to a box exceed it.
        topk: best (anchor, class) pairs of each level that leave :meth:`decode`; None keeps all.

    Raises:
        ValueError: not as many strides as maps, or a negative threshold above the positive one.
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
    ) -> None:
        if negative_iou > positive_iou:
            raise ValueError(
                f'negative_iou={negative_iou} exceeds positive_iou={positive_iou}; an anchor '
                'cannot be both.'
            )
        positive('ratios', ratios)
        positive('octave_base_scale', [octave_base_scale])
        self.num_classes, self.strides = num_classes, tuple(strides)
        self.scales = [
            octave_base_scale * 2 ** (i / scales_per_octave) for i in range(scales_per_octave)
        ]
        self.ratios = tuple(ratios)
        self.positive_iou, self.negative_iou = positive_iou, negative_iou
        self.score_thr, self.topk = score_thr, topk

    def anchors(
        self, feat_sizes: Sequence[Size], device: torch.device | str = 'cpu'
    ) -> list[GridAnchors]:
        """The anchors of every level, float32 pixels."""
        if len(feat_sizes) != len(self.strides):
            raise ValueError(
                f'The network returns {len(feat_sizes)} maps but strides has '
                f'{len(self.strides)} entries; make them equal.'
            )
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
            axes.append(Extents.between(shift - half, shift + half))
        return GridAnchors(*axes)

    def feat_sizes(self, outputs: RetinaNetOutputs) -> list[Size]:
        """(H, W) of the maps, whose channels must fit anchors and classes."""
        counts = [len(self.scales) * len(self.ratios)] * len(self.strides)
        check_depth(outputs.cls, counts, self.num_classes, 'classes')
        check_depth(outputs.box, counts, 4, 'boxes')
        return super().feat_sizes(outputs)

    def encode(
        self, gt_instances: Sequence[InstanceData], feat_sizes: Sequence[Size], img_size: Size
    ) -> RetinaNetTargets:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`; inputs are not modified."""
        padded = pad_instances(gt_instances)
        boxes, labels, mask = usable(padded, img_size, self.num_classes)
        levels = self.anchors(feat_sizes, boxes.device)
        iou = torch.cat([grid_iou(boxes, level) for level in levels], -1)
        match = match_max_iou(iou, mask, self.positive_iou, self.negative_iou)
        code = encode_deltas(
            boxes.gather(1, match.index[..., None].expand(-1, -1, 4)),
            torch.cat([level.cxcywh() for level in levels]),
        )
        positive = match.positive
        own = labels.gather(1, match.index)
        return RetinaNetTargets(
            labels=torch.where(positive, own, self.num_classes),
            box=torch.where(positive[..., None], code, 0),
            mask=positive,
            counted=positive | match.negative,
            shapes=tuple(level.shape for level in levels),
            num_pos=positive.sum().float(),
            num_dropped=(padded.real.sum() - mask.sum()).float(),
        )

    def decode_all(self, outputs: RetinaNetOutputs) -> tuple[Tensor, Tensor]:
        """Boxes (B, P, 4) xyxy pixels, not clipped, and scores (B, P, C) of every anchor."""
        scores = promote(flatten_levels(outputs.cls, self.num_classes)).sigmoid()
        codes = promote(flatten_levels(outputs.box, 4))
        levels = self.anchors(self.feat_sizes(outputs), codes.device)
        anchors = torch.cat([level.cxcywh() for level in levels])
        return decode_deltas(codes, anchors, max_log=abs(math.log(16 / 1000))), scores

    def decode(self, outputs: RetinaNetOutputs, img_size: Size) -> list[InstanceData]:
        """The ``topk`` best pairs of anchor and class of each level, clipped to the image."""
        boxes, scores = self.decode_all(outputs)
        boxes = torch.minimum(boxes.clamp(min=0), constant([*img_size[::-1]] * 2, boxes))
        sizes = [each.shape[1] // self.num_classes * each.shape[2:].numel() for each in outputs.cls]
        results = []
        for box, score in zip(boxes, scores, strict=True):
            kept, start = [], 0
            for level in score.split(sizes):
                flat = level.flatten()
                best, index = flat.topk(
                    len(flat) if self.topk is None else min(self.topk, len(flat))
                )
                index = index[best > self.score_thr]
                kept.append(index + start * self.num_classes)
                start += len(level)
            pairs = torch.cat(kept)
            results.append(
                InstanceData(
                    bboxes=box[pairs // self.num_classes],
                    scores=score.flatten()[pairs],
                    labels=pairs % self.num_classes,
                )
            )
        return results

    def ideal_outputs(self, targets: RetinaNetTargets) -> RetinaNetOutputs:
        """Sure of every label, with the encoded boxes; ignored anchors say background."""
        classes = torch.arange(self.num_classes, device=targets.labels.device)
        sure = (targets.labels[..., None] == classes) * IDEAL_LOGIT * 2
        return RetinaNetOutputs(
            cls=unflatten_levels(sure - IDEAL_LOGIT, targets.shapes),
            box=unflatten_levels(targets.box, targets.shapes),
        )

    def positive_boxes(
        self, targets: RetinaNetTargets, feat_sizes: Sequence[Size], img_size: Size
    ) -> Tensor:
        """The positive anchors of the first image: (n, 4) xyxy pixels."""
        levels = self.anchors(feat_sizes, targets.mask.device)
        return torch.cat([level.xyxy() for level in levels])[targets.mask[0]]


def positive(name: str, values: Sequence[float]) -> None:
    """Raise ``ValueError`` unless all values are positive, finite numbers."""
    for value in values:
        if not 0 < value < math.inf:
            raise ValueError(f'{name} has the entry {value}; give positive numbers.')


def check_depth(maps: Sequence[Tensor], anchors: Sequence[int], depth: int, what: str) -> None:
    """Raise ``ValueError`` unless maps (B, A * depth, H, W) have A anchors a cell."""
    for level, (each, count) in enumerate(zip(maps, anchors, strict=False)):
        if each.shape[1] != count * depth:
            raise ValueError(
                f'Map {level} of the {what} has {each.shape[1]} channels, which is not {count} '
                f'anchors x {depth}; give predictor and encoder the same anchors and classes.'
            )


def usable(padded, img_size: Size, num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes and labels of the slots that can be learnt, and which these are.

    Left out: boxes that are not finite, empty, inverted or wholly outside the
    image, and labels outside 0 ... C-1. Boxes are not clipped; those left out lie far away.
    """
    x1, y1, x2, y2 = padded.boxes.unbind(-1)
    inside = (x2 > 0) & (y2 > 0) & (x1 < img_size[1]) & (y1 < img_size[0])
    known = (padded.labels >= 0) & (padded.labels < num_classes)
    mask = padded.real & is_proper(padded.boxes) & inside & known
    unit = constant([-3.0, -3.0, -2.0, -2.0], padded.boxes) * max(img_size)  # far from any anchor
    return torch.where(mask[..., None], padded.boxes, unit), padded.labels * mask, mask
