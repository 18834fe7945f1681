"""Base of the criteria of YOLOv3 and YOLOv4: darknet's [yolo] layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_losses.core import DetectorLoss, check_levels
from mmdet_losses.core.types import OutputsT
from mmdet_losses.detectors.yolo.box_terms import BOX_TERMS, BoxWeights
from mmdet_losses.detectors.yolo.class_term import ClassOptions, class_targets
from mmdet_losses.detectors.yolo.contracts import GridTargets
from mmdet_losses.detectors.yolo.grids import Slots, grid_boxes, object_slots, take_boxes
from mmdet_losses.detectors.yolo.maps import RawLevel, put_cells, split_level, take_cells
from mmdet_losses.detectors.yolo.summary import summary_loss
from mmdet_losses.ops import best_overlap, check_choice, masked_sum

BoxMode = Literal['mse', 'iou', 'giou', 'diou', 'ciou']
CONFIDENT = 0.25


class LayerOptions(NamedTuple):
    """Options that a cfg sets per [yolo] layer: one value, or one per map."""

    iou_normalizer: float | Sequence[float]
    obj_normalizer: float | Sequence[float]
    max_delta: float | Sequence[float] | None
    objectness_smooth: bool | Sequence[bool]

    def of_map(self, index: int, count: int) -> LayerOptions:
        """The values of one of ``count`` maps."""
        for name, value in self._asdict().items():
            if isinstance(value, list | tuple):
                check_levels(count, len(value), name)
        return LayerOptions(
            *(each[index] if isinstance(each, list | tuple) else each for each in self)
        )


class DarknetLoss(DetectorLoss[OutputsT, GridTargets]):
    r"""darknet's [yolo] layer: its delta is minus the gradient of these terms.

    Convention:
        Objectness and classes are binary entropies. A prediction is ignored (neither positive nor
        negative) if its IoU with any object is above ``ignore_threshold`` and the score of any
        class is above 0.25. Objects that share one anchor of a cell add their box deltas and make
        it multi-label. Sums, not means: darknet divides by the batch size in its learning rate,
        ``normalizer='images'`` divides here. Box terms
        (:mod:`~mmdet_losses.detectors.yolo.box_terms`):

        * ``box='mse'``: binary entropy of the centre and half squares of the raw sizes, weighted
          by ``iou_normalizer`` and 2 - w h.
        * an IoU mode with ``gradient='darknet'``: darknet's value, and its own direction, which
          is not the gradient of the value.
        * an IoU mode with ``gradient='autograd'``: ``iou_normalizer`` times the sum of 1 - IoU
          (or its kind) and the true gradient.

        If objects may have several anchors (an encoder with ``iou_threshold`` below 1), darknet
        divides the box delta of an anchor by the number of its classes with a positive delta.

    Args:
        box: 'mse' or an IoU mode.
        gradient: see above; not used by 'mse'.
        iou_normalizer, obj_normalizer: factors of box and objectness deltas, one number or one
            per map.
        cls_normalizer: only used with ``class_counters``: factor of the first object's class.
        ignore_threshold: see above.
        max_delta: bound of IoU deltas, one number or one per map; None does not clip.
        label_smoothing: eps; positive targets are 1 - eps / 2, negative ones eps / 2.
        objectness_smooth: the target of an ignored prediction is its IoU, and a positive keeps
            the delta of a negative unless that is 0, as in darknet; one bool or one per map.
        focal: modulate class deltas by the first object's class, alpha 0.5, gamma 2.
        class_counters: number of images of each class; the weight of a class is the largest
            counter over its own, at most ``max_delta``.
        convention: 'darknet', or 'summary' for
            :func:`~mmdet_losses.detectors.yolo.summary.summary_loss`.
        normalizer: 'nothing' or 'images'.

    Raises:
        ValueError: an unknown choice, or maps that do not fit the targets.
    """

    def __init__(
        self,
        box: BoxMode = 'mse',
        gradient: Literal['darknet', 'autograd'] = 'darknet',
        iou_normalizer: float | Sequence[float] = 0.75,
        obj_normalizer: float | Sequence[float] = 1.0,
        cls_normalizer: float = 1.0,
        ignore_threshold: float = 0.7,
        max_delta: float | Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        objectness_smooth: bool | Sequence[bool] = False,
        focal: bool = False,
        class_counters: Sequence[int] | None = None,
        convention: Literal['darknet', 'summary'] = 'darknet',
        normalizer: Literal['nothing', 'images'] = 'nothing',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_choice('box', box, ('mse', 'iou', 'giou', 'diou', 'ciou'))
        check_choice('gradient', gradient, ('darknet', 'autograd'))
        check_choice('convention', convention, ('darknet', 'summary'))
        check_choice('normalizer', normalizer, ('nothing', 'images'))
        if convention == 'summary' and box not in ('mse', 'ciou'):
            raise ValueError(
                f"box={box!r} is not part of convention='summary'; choose 'mse' or 'ciou'."
            )
        self.box, self.convention, self.normalizer = box, convention, normalizer
        self.box_term = BOX_TERMS['mse' if box == 'mse' else gradient]
        self.options = LayerOptions(iou_normalizer, obj_normalizer, max_delta, objectness_smooth)
        self.ignore_threshold = ignore_threshold
        self.label_smoothing, self.focal = label_smoothing, focal
        self.cls_normalizer = cls_normalizer
        weights = None
        if class_counters is not None:
            counters = torch.tensor(class_counters, dtype=torch.float32, device='cpu')
            bounds = max_delta if isinstance(max_delta, list | tuple) else (max_delta or math.inf,)
            weights = (counters.max() / counters).clamp(max=min(bounds))
        self.register_buffer('class_multipliers', weights, persistent=False)

    def forward(self, outputs: OutputsT, targets: GridTargets) -> dict[str, Tensor]:
        """Returns ``loss_xy, loss_wh`` or ``loss_box``, then ``loss_obj, loss_noobj, loss_cls``."""
        count = len(outputs.levels)
        check_levels(count, len(targets.levels), 'the list of target maps')
        if self.convention == 'summary':
            terms = [summary_loss(outputs.levels, targets, self.box)]
        else:
            terms = [
                self._level(
                    self.options.of_map(i, count),
                    split_level(level, len(target.grid.anchors)),
                    object_slots(target, targets),
                    targets,
                )
                for i, (level, target) in enumerate(
                    zip(outputs.levels, targets.levels, strict=True)
                )
            ]
        divisor = len(outputs.levels[0]) if self.normalizer == 'images' else 1
        return {name: sum(each[name] for each in terms) / divisor for name in terms[0]}

    def _level(
        self, options: LayerOptions, raw: RawLevel, slots: Slots, targets: GridTargets
    ) -> dict[str, Tensor]:
        """All terms of one map."""
        logits, squared = take_cells(raw.cls, slots.index), slots.grid.squared
        with torch.no_grad():
            multipliers = self.class_multipliers
            class_options = ClassOptions(
                self.label_smoothing, self.focal, multipliers, self.cls_normalizer
            )
            classes = class_targets(logits, slots, class_options)
            multiplier = logits.new_ones(slots.mask.shape)
            if multipliers is not None:
                multiplier = multipliers[slots.labels].to(logits)
            wanted, weight = self._objectness(options, raw, slots, multiplier, targets)
            share = torch.ones_like(multiplier)
            if targets.several:
                moved = take_cells((wanted != raw.obj.sigmoid()) & (weight > 0), slots.index)
                share = torch.where(moved, classes.rising(logits).clamp(min=1), share)
            claimed = slots.claimed()
        weights = BoxWeights(options.iou_normalizer, multiplier, share, options.max_delta)
        obj = options.obj_normalizer * weight * entropy(raw.obj, wanted, squared)
        cls = classes.weight * entropy(logits, classes.target, squared)
        return {
            **self.box_term(*take_boxes(raw, slots), slots, weights, self.box),
            'loss_obj': masked_sum(obj, claimed),
            'loss_noobj': masked_sum(obj, ~claimed),
            'loss_cls': masked_sum(cls, classes.first[..., None]),
        }

    def _objectness(
        self,
        options: LayerOptions,
        raw: RawLevel,
        slots: Slots,
        multiplier: Tensor,
        targets: GridTargets,
    ) -> tuple[Tensor, Tensor]:
        """Target and weight of every objectness, (B, A, N) each."""
        best = best_overlap(*grid_boxes(raw, slots.grid), targets.boxes, targets.mask)
        ignored = (best > self.ignore_threshold) & (raw.cls.amax(2).sigmoid() > CONFIDENT)
        claimed, score = slots.claimed(), raw.obj.sigmoid()
        if options.objectness_smooth:
            wanted = torch.where(ignored, best, 0)
            return torch.where(claimed & (wanted == score), 1, wanted), torch.ones_like(score)
        own = put_cells(multiplier, slots.index, slots.last().mask, slots.grid.cells)
        return claimed.to(score), torch.where(claimed, own, (~ignored).to(score))


def entropy(logits: Tensor, target: Tensor, squared: bool) -> Tensor:
    """Binary entropy; half a squared error if the layer reads sigmoids (``squared``)."""
    if squared:
        return (target - logits.sigmoid()).square() / 2
    return F.binary_cross_entropy_with_logits(logits, target, reduction='none')
