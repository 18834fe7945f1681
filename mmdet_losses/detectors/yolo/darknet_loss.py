"""Base of the criteria of YOLOv3 and YOLOv4: darknet's [yolo] layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_losses.core import DetectorLoss, check_levels, sum_terms
from mmdet_losses.detectors.yolo.box_terms import BOX_TERMS, BoxWeights
from mmdet_losses.detectors.yolo.class_term import ClassOptions, class_targets
from mmdet_losses.detectors.yolo.contracts import GridOutputsT, GridTargets
from mmdet_losses.detectors.yolo.darknet_encoder import CODES, Code
from mmdet_losses.detectors.yolo.grids import (
    Slots,
    grid_boxes,
    object_slots,
    positive_factors,
)
from mmdet_losses.detectors.yolo.joined import (
    JoinedMaps,
    SlotValues,
    join_hidden,
    join_slots,
)
from mmdet_losses.detectors.yolo.maps import (
    RawLevel,
    by_anchor,
    first_in_cell,
    put_cells,
    take_cells,
)
from mmdet_losses.detectors.yolo.summary import Formula, summary_loss
from mmdet_losses.ops import (
    best_match,
    best_overlap,
    check_choice,
    constant,
    masked_sum,
    zero_unless,
)

BoxMode = Literal['mse', 'iou', 'giou', 'diou', 'ciou']
IOU_NORMALIZER = {'redmon': 1.0, 'alexeyab': 0.75}
CONFIDENT = 0.25


class LayerOptions(NamedTuple):
    """Options that a cfg sets per [yolo] layer."""

    iou_normalizer: float
    obj_normalizer: float
    max_delta: float | None
    objectness_smooth: bool
    counted: bool


class DarknetLoss(DetectorLoss[GridOutputsT, GridTargets]):
    r"""darknet's [yolo] layer: its delta is minus the gradient of these terms.

    Convention:
        Objectness and classes are binary entropies. A prediction whose IoU with any object is
        above ``ignore_threshold`` is ignored: neither positive nor negative. Sums, not means:
        darknet divides by the batch size in its learning rate, ``normalizer='images'`` divides
        here. Two programs are called darknet, and their layers differ (``code``):

        * 'redmon' (github.com/pjreddie/darknet): of several objects with one anchor of a cell,
          the last sets the box; the anchor is multi-label. ``iou_normalizer`` is 1.
        * 'alexeyab' (github.com/AlexeyAB/darknet): only a prediction with a class score above
          0.25, of any class, is ignored. Several objects with one anchor of a cell add their box
          deltas. ``iou_normalizer`` is 0.75 unless the cfg sets it.

        Box terms (:mod:`~mmdet_losses.detectors.yolo.box_terms`):

        * ``box='mse'``: binary entropy of the centre and half squares of the raw sizes, weighted
          by ``iou_normalizer`` and 2 - w h.
        * an IoU mode with ``gradient='darknet'``: darknet's value, and its own direction, which
          is not the gradient of the value.
        * an IoU mode with ``gradient='autograd'``: ``iou_normalizer`` times the sum of 1 - IoU
          (or its kind) and the true gradient.

        If objects may have several anchors (an encoder with ``iou_threshold`` below 1), the box
        delta of an anchor is divided by the number of its classes with a positive delta.

    Args:
        box: 'mse' or an IoU mode.
        gradient: see above; not used by 'mse'.
        code: 'redmon' or 'alexeyab', see above.
        iou_normalizer, obj_normalizer: factors of box and objectness deltas, one number or one
            per map; ``iou_normalizer=None`` is the default of ``code``.
        cls_normalizer: only used with ``class_counters``: factor of the first object's class.
        ignore_threshold: see above.
        truth_threshold: a prediction whose IoU with an object is above this is a positive of that
            object; 1 in all official cfgs, which no IoU exceeds.
        max_delta: bound of IoU deltas, one number or one per map; None does not clip.
        label_smoothing: eps; positive targets are 1 - eps / 2, negative ones eps / 2.
        objectness_smooth: the target of an ignored prediction is its IoU, and a positive keeps
            the delta of a negative unless that is 0, as in darknet; one bool or one per map.
        focal: modulate class deltas by the first object's class, alpha 0.5, gamma 2.
        class_counters: number of images of each class; the weight of a class is the largest
            counter over its own (at least 1), at most ``max_delta``.
        convention: 'darknet', or 'summary' for
            :func:`~mmdet_losses.detectors.yolo.summary.summary_loss`.
        normalizer: 'nothing' or 'images'.
        class_weight: factors of the class costs of each class.
        counted: use ``class_counters``, one bool or one per map.

    The weight of an object multiplies its box deltas (before ``max_delta``); the objectness of an
    anchor has the weight of its last object, the classes that of its first one.

    Raises:
        ValueError: an unknown choice, an unsupported combination, or maps that do not fit the
            targets.
    """

    def __init__(
        self,
        box: BoxMode = 'mse',
        gradient: Literal['darknet', 'autograd'] = 'darknet',
        code: Code = 'redmon',
        iou_normalizer: float | Sequence[float] | None = None,
        obj_normalizer: float | Sequence[float] = 1.0,
        cls_normalizer: float = 1.0,
        ignore_threshold: float = 0.7,
        truth_threshold: float = 1.0,
        max_delta: float | Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        objectness_smooth: bool | Sequence[bool] = False,
        focal: bool = False,
        class_counters: Sequence[int] | None = None,
        convention: Literal['darknet', 'summary'] = 'darknet',
        normalizer: Literal['nothing', 'images'] = 'nothing',
        init_cfg: dict | None = None,
        class_weight: Sequence[float] | None = None,
        counted: bool | Sequence[bool] = True,
    ) -> None:
        super().__init__(init_cfg, class_weight)
        check_choice('box', box, ('mse', 'iou', 'giou', 'diou', 'ciou'))
        check_choice('gradient', gradient, ('darknet', 'autograd'))
        check_choice('convention', convention, ('darknet', 'summary'))
        check_choice('normalizer', normalizer, ('nothing', 'images'))
        if convention == 'summary' and box not in ('mse', 'ciou'):
            raise ValueError(
                f"box={box!r} is not part of convention='summary'; choose 'mse' or 'ciou'."
            )
        check_choice('code', code, CODES)
        if truth_threshold < 1 and objectness_smooth is not False:
            raise ValueError(
                f'truth_threshold={truth_threshold} does not support objectness_smooth; set one of '
                'them to its default.'
            )
        self.box, self.convention, self.normalizer = box, convention, normalizer
        self.box_term = BOX_TERMS['mse' if box == 'mse' else gradient]
        self.code: Code = code
        self.class_code: Code = code  # program of the rule of shared anchors, see class_targets
        if iou_normalizer is None:
            iou_normalizer = IOU_NORMALIZER[code]
        self.per_map: dict[str, Any] = dict(
            iou_normalizer=iou_normalizer,
            obj_normalizer=obj_normalizer,
            max_delta=max_delta,
            objectness_smooth=objectness_smooth,
            counted=counted,
        )
        self.ignore_threshold, self.truth_threshold = ignore_threshold, truth_threshold
        self.label_smoothing, self.focal = label_smoothing, focal
        self.cls_normalizer = cls_normalizer
        weights = None
        if class_counters is not None:
            counters = torch.tensor(class_counters, dtype=torch.float32, device='cpu').clamp(min=1)
            weights = counters.max() / counters
        self.register_buffer('class_multipliers', weights, persistent=False)

    def forward(self, outputs: GridOutputsT, targets: GridTargets) -> dict[str, Tensor]:
        """Returns ``loss_xy, loss_wh`` or ``loss_box``, then ``loss_obj, loss_noobj, loss_cls``."""
        count = len(outputs.levels)
        check_levels(count, len(targets.levels), 'the list of target maps')
        if self.convention == 'summary':
            formula: Formula = 'mse' if self.box == 'mse' else 'ciou'
            terms = [summary_loss(outputs.levels, targets, formula, self.weights)]
        else:
            terms = [self._terms(outputs, targets, maps) for maps in self._alike(targets)]
        total = sum_terms(terms)
        if self.normalizer == 'images':
            total = {name: term / len(outputs.levels[0]) for name, term in total.items()}
        return total

    def _alike(self, targets: GridTargets) -> list[list[int]]:
        """Numbers of the maps in groups of the same options, which are computed together."""
        groups: dict[Any, list[int]] = {}
        for i, level in enumerate(targets.levels):
            options = self.options_of(i, len(targets.levels))
            groups.setdefault((options, level.grid.scale_xy == 1), []).append(i)
        return list(groups.values())

    def options_of(self, index: int, count: int) -> LayerOptions:
        """The options of one of ``count`` maps."""
        values: dict[str, Any] = {}
        for name, value in self.per_map.items():
            several = isinstance(value, list | tuple)
            if several:
                check_levels(count, len(value), name)
            values[name] = value[index] if several else value
        return LayerOptions(**values)

    def _terms(
        self, outputs: GridOutputsT, targets: GridTargets, maps: list[int]
    ) -> dict[str, Tensor]:
        """All terms of maps with the same options."""
        options = self.options_of(maps[0], len(targets.levels))
        levels = [targets.levels[i] for i in maps]
        counts = [len(level.grid.anchors) for level in levels]
        values = self._join(outputs, maps, counts)
        slots, free = join_slots([object_slots(level, targets) for level in levels]), None
        raw = values.raw(classes=self.code == 'alexeyab')  # for rules without a gradient
        if self.truth_threshold < 1:
            slots, free = forced_slots(raw, slots, targets, self.truth_threshold)
        obj, found = values.read(slots.index)
        with torch.no_grad():
            positive = slots.claimed() if free is None else slots.claimed() | free.mask
            wanted, weight = self._objectness(options, raw, slots, positive, targets)
            if targets.hidden is not None:
                hidden = join_hidden([targets.hidden[i] for i in maps])
                weight = weight * (positive | ~hidden)
            moved = self._averaged(raw, wanted, weight, targets)
            if options.obj_normalizer != 1:
                weight = weight * options.obj_normalizer
        if slots.weights is not None:
            weight = weight * positive_factors(slots)
            if free is not None and free.weights is not None:
                weight = weight * torch.where(free.mask, free.weights, 1)
        cost = weight * entropy(obj, wanted, slots.grid.squared)
        terms = self._pairs(options, found, slots, moved)
        if free is not None:
            found = values.read(free.index)[1]
            forced = self._pairs(options, found, free, moved, shared=False)
            terms = sum_terms([terms, forced])
        return {
            **terms,
            'loss_obj': masked_sum(cost, positive),
            'loss_noobj': masked_sum(cost, ~positive),
        }

    def _join(self, outputs: GridOutputsT, maps: list[int], counts: list[int]) -> JoinedMaps:
        """All values of some maps; a subclass may append others."""
        pairs = zip(maps, counts, strict=True)
        return JoinedMaps.of([by_anchor(outputs.levels[i], count) for i, count in pairs])

    def _averaged(
        self, raw: RawLevel, wanted: Tensor, weight: Tensor, targets: GridTargets
    ) -> Tensor | None:
        """(B, A, N) bool, anchors whose box delta is divided by their classes; None: none are."""
        return (wanted != raw.obj.sigmoid()) & (weight > 0) if targets.several else None

    def _objectness(
        self,
        options: LayerOptions,
        raw: RawLevel,
        slots: Slots,
        positive: Tensor,
        targets: GridTargets,
    ) -> tuple[Tensor, Tensor]:
        """Target and weight of every objectness, (B, A, N) each."""
        best = best_overlap(*grid_boxes(raw, slots.grid), targets.boxes, targets.mask)
        ignored = best > self.ignore_threshold
        if self.code == 'alexeyab':
            ignored = ignored & (raw.cls.amax(2).sigmoid() > CONFIDENT)
        score = raw.obj.sigmoid()
        if options.objectness_smooth:
            wanted, one = zero_unless(ignored, best), constant(1, best)
            return torch.where(positive & (wanted == score), one, wanted), torch.ones_like(score)
        weight = (positive | ~ignored).to(score)
        if (multipliers := self._multipliers(options)) is not None:
            own = multipliers[slots.labels].to(score)
            last = slots.last()
            weight = weight * put_cells(own, last.index, last.mask, slots.grid.cells, 1)
        return positive.to(score), weight

    def _multipliers(self, options: LayerOptions) -> Tensor | None:
        """(C,) weights of the classes; None if the map has none."""
        if self.class_multipliers is None or not options.counted:
            return None
        return self.class_multipliers.clamp(min=0, max=options.max_delta)

    def _pairs(
        self,
        options: LayerOptions,
        found: SlotValues,
        slots: Slots,
        moved: Tensor | None,
        shared: bool = True,
    ) -> dict[str, Tensor]:
        """Box and class terms of slots.

        Args:
            moved: result of :meth:`_averaged`.
            shared: slots can share the anchor of a cell.
        """
        logits = found.cls
        with torch.no_grad():
            multipliers = self._multipliers(options)
            class_options = ClassOptions(
                self.class_code, self.label_smoothing, self.focal, multipliers, self.cls_normalizer
            )
            classes = class_targets(logits, slots, class_options, shared)
            factor, share = slots.weights, None
            if multipliers is not None:
                own = multipliers[slots.labels].to(logits)
                factor = own if factor is None else factor * own
            if moved is not None:
                rising = classes.rising(logits).clamp(min=1)
                averaged = take_cells(moved, slots.index)
                share = torch.where(averaged, rising, constant(1, rising))
        weights = BoxWeights(options.iou_normalizer, factor, share, options.max_delta)
        boxed = slots.last() if self.code == 'redmon' and shared else slots
        cost = entropy(logits, classes.target, slots.grid.squared)
        cost = cost if classes.weight is None else cost * classes.weight
        cost = weigh(cost, self.weights(logits.shape[-1]))
        cost = cost if slots.weights is None else cost * slots.weights[..., None]
        return {
            **self._boxes(found, boxed, weights),
            'loss_cls': masked_sum(cost, classes.first[..., None]),
        }

    def _boxes(self, found: SlotValues, slots: Slots, weights: BoxWeights) -> dict[str, Tensor]:
        """Box terms of slots."""
        return self.box_term(found.xy, found.wh, slots, weights, self.box)


def forced_slots(
    raw: RawLevel, slots: Slots, targets: GridTargets, threshold: float
) -> tuple[Slots, Slots]:
    """Slots with the predictions whose IoU with an object is above ``threshold``.

    Returns:
        ``slots``, preceded by those objects at the anchors that it claims, (B, A, 2 K); and one
        slot per other anchor, (B, A, N).
    """
    iou, best = best_match(*grid_boxes(raw, slots.grid), targets.boxes, targets.mask)
    forced, cells = iou > threshold, slots.grid.cells

    def of_objects(index: Tensor, mask: Tensor, objects: Tensor) -> Slots:
        rows = objects.flatten(1)
        boxes = targets.boxes.gather(1, rows[..., None].expand(-1, -1, 4))
        labels = targets.labels.gather(1, rows).view_as(objects)
        weights = targets.weights
        weights = None if weights is None else weights.gather(1, rows).view_as(objects)
        boxes = boxes.unflatten(1, objects.shape[1:])
        return Slots(slots.grid, index, mask, boxes, labels, weights)

    first = first_in_cell(slots.index, slots.mask, cells)
    mask = first & take_cells(forced, slots.index)
    earlier = of_objects(slots.index, mask, take_cells(best, slots.index))
    everywhere = torch.arange(cells, device=best.device).expand_as(best)
    fields = zip(earlier[1:], slots[1:], strict=True)
    both = Slots(slots.grid, *(None if None in pair else torch.cat(pair, 2) for pair in fields))
    return both, of_objects(everywhere, forced & ~slots.claimed(), best)


def entropy(logits: Tensor, target: Tensor, squared: bool) -> Tensor:
    """Binary entropy; half a squared error if the layer reads sigmoids (``squared``)."""
    if squared:
        return (target - logits.sigmoid()).square() / 2
    return F.binary_cross_entropy_with_logits(logits, target, reduction='none')


def weigh(cost: Tensor, weights: Tensor | None) -> Tensor:
    """Costs (..., C) times the class weights (C,), if there are any."""
    return cost if weights is None else cost * weights
