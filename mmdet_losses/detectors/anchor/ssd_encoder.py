"""Target encoder of SSD."""

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
from mmdet_losses.detectors.anchor.common import anchor_weights, hide_anchors, ideal_maps
from mmdet_losses.detectors.anchor.contracts import SSDOutputs, SSDTargets
from mmdet_losses.ops import (
    AnchorTable,
    BoxCode,
    Extents,
    GridAnchors,
    best_per_class,
    cell_major_rank,
    check_choice,
    constant,
    counting,
    flatten_levels,
    made_once,
    match_bipartite,
    match_forced_best,
    promote,
    reject_below,
    scale_boxes,
    scores_above,
    zero_unless,
)
from mmdet_losses.registry import TASK_UTILS

Sizes = float | Sequence[float]
"""One or several sizes of a level, in pixels."""


def _listed(sizes: Sizes | None) -> list[float]:
    """The sizes of a level, none for None."""
    return [sizes] if isinstance(sizes, int | float) else list(sizes or ())


def prior_shapes(
    small: Sequence[float], large: Sequence[float], ratios: Sequence[float], flip: bool
) -> list[tuple[float, float]]:
    """(width, height) of the priors of a cell, in the order of Caffe's PriorBox.

    Args:
        large: as many as ``small``, or none.
    """
    shapes = []
    for index, side in enumerate(small):
        shapes.append((side, side))
        if large:
            shapes.append((math.sqrt(side * large[index]),) * 2)
        for ratio in ratios:
            root = math.sqrt(ratio)
            shapes.append((side * root, side / root))
            if flip:
                shapes.append((side / root, side * root))
    return shapes


@TASK_UTILS.register_module()
class SSDTargetEncoder(TargetEncoder[SSDOutputs, SSDTargets]):
    r"""SSD's priors, matched by IoU, with centre shifts and log sizes divided by the variances.

    Convention:
        Boxes are fractions of the image. The priors of a cell are, for each of the level's
        ``min_sizes``: its square, the square of the geometric mean with its ``max_sizes``, then for
        each aspect ratio the wide and the tall box. ssd.pytorch clips priors as (cx, cy, w, h):
        centres move and sizes shrink, but boxes may still reach beyond the image. Caffe clips the
        corners (``clip='corners'``). MMDetection does not clip (``clip=False``). An image without
        objects is background; ssd.pytorch raises an error.

    Args:
        num_classes: C, without the background.
        min_sizes: pixels, a number or several per level; the defaults are SSD300's for VOC.
        max_sizes: pixels, as many as ``min_sizes``; None for a level, or for all, leaves the
            second square out.
        strides: cell size of each level in pixels, a number or (x, y); None divides the image by
            the number of cells.
        aspect_ratios: additional ratios of each level.
        flip: False leaves the tall boxes out.
        offset: position of the centre in its cell, as a share of the stride.
        clip: True clips priors as ssd.pytorch does; 'corners' or False, see above.
        variances: divisors of the shifts and of the logarithms, or of each of the four deltas.
        use_sigmoid: classes are independent sigmoids, and the maps have no background channel;
            the criterion then needs a ``loss_cls`` with ``use_sigmoid=True``.
        matching: 'forced' as ssd.pytorch, or 'bipartite' as Caffe; see
            :mod:`~mmdet_losses.ops.matching`.
        positive_iou: a prior is positive if its IoU is at least this.
        negative_iou: a prior that is not positive is a negative below this IoU, else it is ignored
            (Caffe's ``neg_overlap``). None: every prior that is not positive is a negative.
        ignore_cross_boundary: True: priors that reach beyond the image are neither positive nor
            negative, as with Caffe's option of this name.
        score_thr: :meth:`decode` drops scores that are not above this.
        topk: highest scores per class that :meth:`decode` keeps; None keeps all.
        ignore_iof_thr: an anchor with a larger share of its area in an ignored region is neither
            positive nor negative; negative values disable this. As in MMDetection.

    Encoded:
        :class:`~mmdet_losses.detectors.anchor.contracts.SSDTargets`.

    Raises:
        ValueError: tables of different lengths, an invalid size, or a wrong number of maps.

    Reference:
        Liu et al., *SSD: Single Shot MultiBox Detector*, 2016, section 2.2; ssd.pytorch.
    """

    outputs_type = SSDOutputs

    def __init__(
        self,
        num_classes: int,
        min_sizes: Sequence[Sizes] = (30, 60, 111, 162, 213, 264),
        max_sizes: Sequence[Sizes | None] | None = (60, 111, 162, 213, 264, 315),
        strides: Sequence[float | tuple[float, float]] | None = (8, 16, 32, 64, 100, 300),
        aspect_ratios: Sequence[Sequence[float]] = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
        clip: bool | Literal['corners'] = True,
        variances: Sequence[float] = (0.1, 0.2),
        positive_iou: float = 0.5,
        score_thr: float = 0.01,
        topk: int | None = 200,
        ignore_iof_thr: float = 0.5,
        flip: bool = True,
        offset: float = 0.5,
        use_sigmoid: bool = False,
        matching: Literal['forced', 'bipartite'] = 'forced',
        negative_iou: float | None = None,
        ignore_cross_boundary: bool = False,
    ) -> None:
        levels = len(min_sizes)
        check_choice('clip', clip, (True, False, 'corners'))
        check_choice('matching', matching, ('forced', 'bipartite'))
        max_sizes = [None] * levels if max_sizes is None else max_sizes
        tables = dict(max_sizes=max_sizes, aspect_ratios=aspect_ratios, strides=strides)
        for name, table in tables.items():
            if table is not None and len(table) != levels:
                raise ValueError(
                    f'{name} has {len(table)} entries but min_sizes {levels}; give one per level.'
                )
        check_positive('aspect_ratios', [ratio for level in aspect_ratios for ratio in level])
        check_positive('variances', variances)
        self.sizes = [
            (_listed(small), _listed(large), ratios)
            for small, large, ratios in zip(min_sizes, max_sizes, aspect_ratios, strict=True)
        ]
        for small, large, _ in self.sizes:
            check_positive('min_sizes', small or [0])
            check_positive('max_sizes', large)
            if len(large) not in (0, len(small)):
                raise ValueError(
                    f'A level has {len(small)} min_sizes but {len(large)} max_sizes; give as many, '
                    'or None.'
                )
        self.num_classes, self.clip, self.variances = num_classes, clip, tuple(variances)
        self.strides, self.offset, self.flip = strides, offset, flip
        self.use_sigmoid = use_sigmoid
        self.matching, self.negative_iou = matching, negative_iou
        self.channels = num_classes if use_sigmoid else num_classes + 1
        self.positive_iou, self.score_thr, self.topk = positive_iou, score_thr, topk
        self.ignore_iof_thr = ignore_iof_thr
        self.ignore_cross_boundary = ignore_cross_boundary

    def priors(
        self, feat_sizes: Sequence[Size], img_size: Size, device: torch.device | str = 'cpu'
    ) -> list[GridAnchors]:
        """Priors of every level, float32 fractions of the image."""
        check_levels(len(feat_sizes), len(self.sizes), 'min_sizes')
        return [
            self._level(level, feat_size, img_size, device)
            for level, feat_size in enumerate(feat_sizes)
        ]

    def _level(
        self, level: int, feat_size: Size, img_size: Size, device: torch.device | str
    ) -> GridAnchors:
        small, large, ratios = self.sizes[level]
        axes = []
        for axis, (cells, length) in enumerate(zip(feat_size[::-1], img_size[::-1], strict=True)):
            stride = length / cells
            if self.strides is not None:
                given = self.strides[level]
                stride = given[axis] if isinstance(given, tuple | list) else given
            cell = torch.arange(cells, dtype=torch.float64, device=device)
            # ssd.pytorch's order of operations; it decides between priors of equal IoU
            center = (cell + self.offset) / (length / stride)
            scaled = ([size / length for size in sizes] for sizes in (small, large))
            shapes = prior_shapes(*scaled, ratios, self.flip)
            size = constant([shape[axis] for shape in shapes], center)
            center = center.float().expand(len(shapes), -1)
            size = size.float()[:, None].expand(-1, cells)
            if self.clip is True:
                center, size = center.clamp(0, 1), size.clamp(0, 1)
            extents = Extents.around(center, size)
            if self.clip == 'corners':
                extents = Extents.between(extents.low.clamp(0, 1), extents.high.clamp(0, 1))
            axes.append(extents)
        return GridAnchors(*axes)

    @made_once(16)
    def table(
        self, feat_sizes: Sequence[Size], img_size: Size, device: torch.device
    ) -> tuple[AnchorTable, Tensor]:
        """Priors of all levels in fractions of the image, and (P, 4) cxcywh in pixels."""
        table = AnchorTable.of(self.priors(feat_sizes, img_size, device))
        return table, scale_boxes(table.anchors, *img_size[::-1])

    def box_code(self, priors: Tensor) -> BoxCode:
        """Deltas relative to priors (P, 4) cxcywh."""
        return BoxCode(priors, self.variances, max_log=20)

    def feat_sizes(self, outputs: SSDOutputs) -> list[Size]:
        """(H, W) of the maps, whose channels must fit priors and classes."""
        counts = [len(prior_shapes(*level, self.flip)) for level in self.sizes]
        check_channels(outputs.cls, counts, self.channels, 'classes')
        check_channels(outputs.box, counts, 4, 'boxes')
        return super().feat_sizes(outputs)

    def encode(
        self,
        gt_instances: Sequence[InstanceData],
        feat_sizes: Sequence[Size],
        img_size: Size,
        ignored: Ignored = None,
    ) -> SSDTargets:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`; inputs are not modified."""
        padded = pad_instances(gt_instances)
        boxes, labels, mask = usable_boxes(padded, img_size, self.num_classes)
        boxes = boxes / constant([*img_size[::-1]] * 2, boxes)
        scale = 1 / img_size[1], 1 / img_size[0]
        table, in_pixels = self.table(tuple(feat_sizes), img_size, boxes.device)
        iou, hidden = hide_anchors(
            table.iou(boxes), ignored, table.levels, self.ignore_iof_thr, img_size, scale
        )
        if self.ignore_cross_boundary:
            corners = torch.cat([level.xyxy() for level in table.levels])
            outside = ((corners < 0) | (corners > 1)).any(-1).expand(len(iou), -1)
            hidden = outside if hidden is None else hidden | outside
            iou = torch.where(outside[:, None], -1, iou)
        rank = cell_major_rank(table.shapes, boxes.device)
        matcher = match_forced_best if self.matching == 'forced' else match_bipartite
        # forced matching would give an object whose priors are all hidden one without an overlap
        reached = mask if hidden is None else mask & (iou.amax(2) > 0)
        match = matcher(iou, reached, rank, self.positive_iou)
        any_object = mask.any(1)[:, None]
        positive = match.positive & any_object
        positive = positive if hidden is None else positive & ~hidden
        counted = None if hidden is None else ~hidden
        if self.negative_iou is not None:
            low = iou.amax(1) < self.negative_iou
            counted = (positive | low) if counted is None else counted & (positive | low)
        own = labels.gather(1, match.index)
        code = self.box_code(table.anchors)
        deltas = code.encode(boxes.gather(1, match.index[..., None].expand(-1, -1, 4)))
        return SSDTargets(
            labels=torch.where(positive, own, constant(self.num_classes, own)),
            box=zero_unless(any_object[..., None], deltas),
            mask=positive,
            code=self.box_code(in_pixels),
            shapes=table.shapes,
            num_pos=positive.sum(dtype=torch.float32),
            num_dropped=padded.count - mask.sum(dtype=torch.float32),
            counted=counted,
            background=not self.use_sigmoid,
            weights=anchor_weights(padded.weights, match.index, positive),
        )

    def decode(self, outputs: SSDOutputs, img_size: Size) -> list[InstanceData]:
        """The ``topk`` highest scores of each class above ``score_thr``; boxes are not clipped."""
        sizes = self.feat_sizes(outputs)
        table, _ = self.table(tuple(sizes), img_size, outputs.cls[0].device)
        if outputs.cls[0].device.type != 'cpu':
            return self._decode_all(outputs, self.box_code(table.anchors), img_size)
        parts, start = [], 0
        for cls in outputs.cls:
            logits = promote(cls.unflatten(1, (-1, self.channels)).flatten(3))
            anchors, cells = logits.shape[1], logits.shape[3]
            rows = logits.flatten(0, 1)
            scores, found = scores_above(rows, self.score_thr, softmax=not self.use_sigmoid)
            row, label, cell = found
            image, anchor = row.div(anchors, rounding_mode='floor'), row % anchors
            parts.append((scores, image, start + anchor * cells + cell, label))
            start += anchors * cells
        scores, image, prior, label = (torch.cat(each) for each in zip(*parts, strict=True))
        code = self.box_code(table.anchors)
        results = []
        for i, deltas in enumerate(flatten_levels(outputs.box, 4)):
            own = (image == i).nonzero().squeeze(1)
            own = own[best_per_class(scores[own], label[own], self.topk)]
            boxes = code.at(prior[own]).decode(promote(deltas[prior[own]]))
            boxes = scale_boxes(boxes, img_size[1], img_size[0])
            results.append(InstanceData(bboxes=boxes, scores=scores[own], labels=label[own]))
        return results

    def _decode_all(self, outputs: SSDOutputs, code: BoxCode, img_size: Size) -> list[InstanceData]:
        """``topk`` boxes of every class, with a score of -1 where it is not above the threshold."""
        logits = promote(flatten_levels(outputs.cls, self.channels))
        scores = logits.sigmoid() if self.use_sigmoid else logits.softmax(2)[..., :-1]
        count = scores.shape[1] if self.topk is None else min(self.topk, scores.shape[1])
        best, prior = scores.transpose(1, 2).topk(count, 2)  # (B, C, K)
        labels = counting(self.num_classes, best.device)[:, None].expand_as(best)
        deltas = promote(flatten_levels(outputs.box, 4))
        chosen = prior.flatten(1)
        deltas = deltas.gather(1, chosen[..., None].expand(-1, -1, 4))
        boxes = scale_boxes(code.at(chosen).decode(deltas), img_size[1], img_size[0])
        best = reject_below(best.flatten(1), self.score_thr)
        return split_images(bboxes=boxes, scores=best, labels=labels.flatten(1))

    def decode_tensors(self, outputs: SSDOutputs, img_size: Size, limit: int = 1000) -> Detections:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`; all classes share ``limit``."""
        sizes = tuple(self.feat_sizes(outputs))
        table, _ = self.table(sizes, img_size, outputs.cls[0].device)
        logits = promote(flatten_levels(outputs.cls, self.channels))
        scores = logits.sigmoid() if self.use_sigmoid else logits.softmax(-1)[..., :-1]
        boxes = self.box_code(table.anchors).decode(promote(flatten_levels(outputs.box, 4)))
        boxes = scale_boxes(boxes, img_size[1], img_size[0])
        return best_detections(boxes, scores, limit, self.score_thr)

    def ideal_outputs(self, targets: SSDTargets) -> SSDOutputs:
        """Certain class logits and the encoded boxes."""
        return SSDOutputs(*ideal_maps(targets, self.channels))

    def positive_boxes(
        self, targets: SSDTargets, feat_sizes: Sequence[Size], img_size: Size
    ) -> Tensor:
        """The positive priors of the first image: (n, 4) xyxy pixels."""
        levels = self.priors(feat_sizes, img_size, targets.mask.device)
        priors = torch.cat([level.xyxy() for level in levels])[targets.mask[0]]
        return scale_boxes(priors, img_size[1], img_size[0])
