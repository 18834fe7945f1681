"""Criteria of YOLOv3 and YOLOv4, as darknet trains them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_losses.core import DetectorLoss
from mmdet_losses.detectors.yolo.contracts import GridLevel, GridTargets, YOLOV3Outputs
from mmdet_losses.detectors.yolo.darknet_encoder import cell_targets, grid_boxes, grid_sizes
from mmdet_losses.detectors.yolo.maps import (
    RawLevel,
    check_levels,
    last_in_cell,
    put_cells,
    split_level,
    take_cells,
)
from mmdet_losses.detectors.yolo.summary import grid_notes_loss
from mmdet_losses.ops import (
    IOU_MODES,
    at_least_one,
    best_overlap,
    box_similarity,
    boxes_around,
    cell_xy,
    check_choice,
    constant,
    darknet_iou,
    darknet_iou_direction,
    masked_sum,
)
from mmdet_losses.registry import MODELS

BoxTerm = Literal['mse', 'iou', 'giou', 'diou', 'ciou']
CONFIDENT = 0.25
FOCAL_ALPHA = 0.5


class Slots(NamedTuple):
    """(object, anchor) pairs of one map, (B, A, M), and what darknet weighs them by."""

    index: Tensor
    positive: Tensor
    labels: Tensor
    multiplier: Tensor
    """Class multiplier of the object."""
    same: Tensor
    """(B, A, M, M) bool: both are positive and share the anchor of one cell."""


class DarknetLoss(DetectorLoss[YOLOV3Outputs, GridTargets]):
    r"""darknet's [yolo] layer: its delta is minus the gradient of these terms.

    Convention:
        Objectness and classes are binary entropies. A prediction whose IoU with some object
        exceeds ``ignore_threshold``, and one of whose class scores exceeds 0.25 (any class, not
        the object's), is no negative. Objects that claim one anchor of one cell add their box
        deltas and make it multi-label. Sums, not means: darknet divides by the batch through its
        learning rate, ``normalizer='images'`` does it here. Box terms:

        * 'mse': centres cost a binary entropy, sizes half a squared difference, both weighted by
          ``iou_normalizer`` and 2 - w h. With a grid sensitivity above 1 darknet takes the
          residual after scaling and no chain factor; half its square is the reported value.
        * IoU losses with ``gradient='darknet'``: the value is darknet's, ``iou_normalizer`` times
          the mean of 1 - IoU (its own measure for GIoU, the plain IoU else), but the gradient is
          darknet's direction of each pair, which is no gradient of that; see
          :func:`~mmdet_losses.ops.darknet_iou.darknet_iou_direction`. It moves raw centres
          without sigmoid or grid factor, is clipped to ``max_delta`` and never NaN.
        * ``gradient='autograd'``: ``iou_normalizer`` times the sum of 1 - IoU (or its kind) of
          the decoded boxes and its true gradient.

        Where objects may claim several anchors (an encoder's IoU threshold below 1), darknet
        divides the box delta of an anchor by the number of its classes with a positive delta.

    Args:
        box: 'mse' or an IoU mode.
        gradient: see above; ignored by 'mse'.
        iou_normalizer, obj_normalizer: factors of box and objectness deltas, one number or one
            for each map.
        cls_normalizer: acts only together with ``class_counters``, on the first object's class.
        ignore_threshold: see above.
        max_delta: bound of IoU deltas, one number or one for each map; None does not clip.
        label_smoothing: eps; positive 1 - eps / 2, negative eps / 2.
        objectness_smooth: an ignored prediction is drawn to its IoU, and claimed ones keep the
            delta of a negative (so darknet does); one bool or one for each map.
        focal: modulate class deltas by the first object's class, alpha 0.5, gamma 2.
        class_counters: images of each class; a class weighs the largest counter over its own, at
            most ``max_delta``.
        convention: 'darknet', or 'notes' for the formula of
            :func:`~mmdet_losses.detectors.yolo.summary.grid_notes_loss`.
        normalizer: 'nothing' or 'images'.

    Raises:
        ValueError: an unknown choice, or maps that do not fit the targets.
    """

    def __init__(
        self,
        box: BoxTerm = 'mse',
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
        convention: Literal['darknet', 'notes'] = 'darknet',
        normalizer: Literal['nothing', 'images'] = 'nothing',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_choice('box', box, ('mse', *IOU_MODES))
        check_choice('gradient', gradient, ('darknet', 'autograd'))
        check_choice('convention', convention, ('darknet', 'notes'))
        check_choice('normalizer', normalizer, ('nothing', 'images'))
        if convention == 'notes' and box not in ('mse', 'ciou'):
            raise ValueError(f"convention='notes' knows box='mse' and box='ciou', not {box!r}.")
        self.box, self.gradient, self.convention, self.normalizer = (
            box,
            gradient,
            convention,
            normalizer,
        )
        self.iou_normalizer, self.obj_normalizer = iou_normalizer, obj_normalizer
        self.cls_normalizer, self.ignore_threshold = cls_normalizer, ignore_threshold
        self.max_delta, self.label_smoothing = max_delta, label_smoothing
        self.objectness_smooth, self.focal = objectness_smooth, focal
        weights = None
        if class_counters is not None:
            counters = torch.tensor(class_counters, dtype=torch.float32, device='cpu')
            weights = (counters.max() / counters).clamp(max=_smallest(max_delta))
        self.register_buffer('class_multipliers', weights, persistent=False)

    def forward(self, outputs: YOLOV3Outputs, targets: GridTargets) -> dict[str, Tensor]:
        """Returns ``loss_xy, loss_wh`` or ``loss_box``, then ``loss_obj, loss_noobj, loss_cls``."""
        check_levels(len(outputs.levels), len(targets.levels), 'the list of target maps')
        for name in ('iou_normalizer', 'obj_normalizer', 'max_delta', 'objectness_smooth'):
            given = getattr(self, name)
            if isinstance(given, list | tuple):
                check_levels(len(outputs.levels), len(given), name)
        if self.convention == 'notes':
            terms = grid_notes_loss(outputs.levels, targets, 'mse' if self.box == 'mse' else 'ciou')
        else:
            each = [
                self._level(i, level, grid, targets)
                for i, (level, grid) in enumerate(zip(outputs.levels, targets.levels, strict=True))
            ]
            terms = {name: sum(term[name] for term in each) for name in each[0]}
        divisor = len(outputs.levels[0]) if self.normalizer == 'images' else 1
        return {name: term / divisor for name, term in terms.items()}

    def _level(
        self, i: int, level: Tensor, grid: GridLevel, targets: GridTargets
    ) -> dict[str, Tensor]:
        raw = split_level(level, len(grid.anchors))
        slots = self._slots(grid, targets)
        objectness, moved = self._objectness(i, raw, grid, targets, slots)
        loss_cls, rising = self._classes(raw, grid, slots)
        share = torch.where(moved, rising.clamp(min=1), 1) if targets.several else 1
        weight = _of_level(self.iou_normalizer, i) * slots.multiplier
        boxes = targets.boxes
        if self.box == 'mse':
            box = self._squares(raw, grid, boxes, slots, weight / share)
        elif self.gradient == 'autograd':
            box = self._similarity(raw, grid, boxes, slots, weight / share)
        else:
            box = self._directed(i, raw, grid, boxes, slots, weight, share)
        return {**box, **objectness, 'loss_cls': loss_cls}

    def _slots(self, grid: GridLevel, targets: GridTargets) -> Slots:
        index = grid.index[:, None].expand_as(grid.positive)
        pair = grid.positive[..., :, None] & grid.positive[..., None, :]
        same = pair & (index[..., :, None] == index[..., None, :])
        multiplier = torch.ones_like(targets.boxes[..., 0])
        if self.class_multipliers is not None:
            multiplier = self.class_multipliers[targets.labels]
        return Slots(index, grid.positive, targets.labels, multiplier[:, None], same)

    def _objectness(
        self, i: int, raw: RawLevel, grid: GridLevel, targets: GridTargets, slots: Slots
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Both objectness terms, and where the delta of a slot's anchor is not zero."""
        cells = raw.obj.shape[2]
        with torch.no_grad():
            center, size = grid_boxes(raw, grid.size, grid.anchors, grid.scale_xy, grid.squared)
            best = best_overlap(center, size, targets.boxes, targets.mask)
            confident = raw.cls.amax(2).sigmoid() > CONFIDENT
            ignored = (best > self.ignore_threshold) & confident
            claimed = put_cells(slots.positive, slots.index, slots.positive, cells)
            score = raw.obj.sigmoid()
            if _of_level(self.objectness_smooth, i):
                wanted = torch.where(ignored, torch.maximum(best, score.new_zeros(())), 0)
                wanted = torch.where(claimed & (wanted == score), 1, wanted)
                weight = torch.ones_like(score)
            else:
                wanted = claimed.to(score)
                last = last_in_cell(slots.index, slots.positive, cells)
                own = slots.multiplier.expand_as(slots.index)
                weight = torch.where(ignored, 0, torch.ones_like(score))
                weight = torch.where(claimed, put_cells(own, slots.index, last, cells, 1), weight)
            moved = take_cells((wanted != score) & (weight > 0), slots.index)
        cost = _entropy(raw.obj, wanted, grid.squared) * weight * _of_level(self.obj_normalizer, i)
        terms = {
            'loss_obj': masked_sum(cost, claimed),
            'loss_noobj': masked_sum(cost, ~claimed),
        }
        return terms, moved

    def _classes(self, raw: RawLevel, grid: GridLevel, slots: Slots) -> tuple[Tensor, Tensor]:
        """The class term, and how many classes of each slot's anchor have a positive delta."""
        logits = take_cells(raw.cls, slots.index)
        with torch.no_grad():
            count = slots.index.shape[2]
            order = torch.arange(count, device=logits.device)
            after = order > order[:, None]
            first = slots.positive & ~(slots.same & after.t()).any(-1)
            classes = torch.arange(logits.shape[-1], device=logits.device)
            own = (slots.labels[..., None] == classes).to(logits)[:, None]  # (B, 1, M, C)
            union = (slots.same.to(logits) @ own) > 0
            later = ((slots.same & after).to(logits) @ own) > 0
            eps = self.label_smoothing
            target = union * (1 - eps) + eps / 2
            weight = torch.ones_like(logits)
            if self.class_multipliers is not None:
                weight = torch.where(union, self.class_multipliers.to(logits), weight)
                alone = (own > 0) & ~later
                weight = torch.where(alone, weight * self.cls_normalizer, weight)
            if self.focal:
                target = torch.where(later, 1 - eps / 2, own)
                score = (logits.sigmoid() * own).sum(-1, keepdim=True) + 1e-15
                slope = -(1 - score) * (2 * score * score.log() + score - 1)
                weight = torch.where(later, weight, FOCAL_ALPHA * slope)
            rising = ((target > logits.sigmoid()).sum(-1) * first).to(logits)
            rising = torch.where(slots.same, rising[..., None, :], 0).sum(-1)
        cost = weight * _entropy(logits, target, grid.squared)
        return masked_sum(cost, first[..., None]), rising

    def _squares(
        self, raw: RawLevel, grid: GridLevel, boxes: Tensor, slots: Slots, weight: Tensor
    ) -> dict[str, Tensor]:
        if grid.squared:
            raise ValueError("box='mse' has no squared form; choose an IoU mode for box.")
        xy, wh = take_cells(raw.xy, slots.index), take_cells(raw.wh, slots.index)
        goal_xy, goal_wh = cell_targets(grid, boxes)
        goal_xy = goal_xy[:, None].expand_as(xy)
        size = (2 - boxes[..., 2] * boxes[..., 3])[:, None]
        weight = torch.where(slots.positive, weight * size, 0)[..., None]
        loss_wh = (weight * (goal_wh - wh).square() / 2).sum()
        if grid.scale_xy == 1:
            entropy = F.binary_cross_entropy_with_logits(xy, goal_xy, reduction='none')
            return {'loss_xy': (weight * entropy).sum(), 'loss_wh': loss_wh}
        with torch.no_grad():
            at = xy.sigmoid() * grid.scale_xy - (grid.scale_xy - 1) / 2
            delta = weight * (goal_xy - at)
            reported = (delta * (goal_xy - at)).sum() / 2
        return {'loss_xy': Steer.apply(xy, delta, reported), 'loss_wh': loss_wh}

    def _similarity(
        self, raw: RawLevel, grid: GridLevel, boxes: Tensor, slots: Slots, weight: Tensor
    ) -> dict[str, Tensor]:
        xy, wh = take_cells(raw.xy, slots.index), take_cells(raw.wh, slots.index)
        center = xy.sigmoid() * grid.scale_xy - (grid.scale_xy - 1) / 2 + _corner(slots, grid, xy)
        pred = boxes_around(
            center / _cells(grid, xy), grid_sizes(wh, grid.anchors[:, None], grid.squared)
        )
        goal = boxes_around(boxes[..., :2], boxes[..., 2:])[:, None]
        cost = weight * (1 - box_similarity(pred, goal, self.box))
        return {'loss_box': masked_sum(cost, slots.positive)}

    def _directed(
        self,
        i: int,
        raw: RawLevel,
        grid: GridLevel,
        boxes: Tensor,
        slots: Slots,
        weight: Tensor,
        share: Tensor | int,
    ) -> dict[str, Tensor]:
        values = torch.cat((take_cells(raw.xy, slots.index), take_cells(raw.wh, slots.index)), -1)
        score = values.sigmoid()
        with torch.no_grad():
            at = score[..., :2] * grid.scale_xy - (grid.scale_xy - 1) / 2
            center = (at + _corner(slots, grid, at)) / _cells(grid, at)
            if grid.squared:
                size = grid_sizes(values[..., 2:], grid.anchors[:, None], True)
                chain = torch.ones_like(values)
            else:
                chain = torch.cat((torch.ones_like(center), values[..., 2:].exp()), -1)
                size = chain[..., 2:] * grid.anchors[:, None]
            pred, goal = torch.cat((center, size), -1), boxes[:, None]
            delta = darknet_iou_direction(pred, goal, self.box) * chain * weight[..., None]
            delta = delta.nan_to_num(0, 0, 0)
            bound = _of_level(self.max_delta, i)
            if bound is not None:
                delta = delta.clamp(-bound, bound)
            delta = delta / (share[..., None] if isinstance(share, Tensor) else share)
            delta = torch.where(slots.positive[..., None], delta, 0)
            reached = darknet_iou(pred, goal, 'giou' if self.box == 'giou' else 'iou')
            reported = masked_sum(1 - reached.nan_to_num(0, 0, 0), slots.positive)
            reported = reported / at_least_one(slots.positive.sum())
            reported = reported * _of_level(self.iou_normalizer, i)
        return {'loss_box': Steer.apply(score if grid.squared else values, delta, reported)}


class Steer(torch.autograd.Function):
    """A scalar that reads ``reported`` and whose gradient by ``values`` is minus ``delta``."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, delta: Tensor, reported: Tensor) -> Tensor:
        ctx.save_for_backward(delta)
        return reported.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (delta,) = ctx.saved_tensors
        return -grad * delta, None, None


def _entropy(logits: Tensor, target: Tensor, squared: bool) -> Tensor:
    """Binary entropy; where the layer is given sigmoids (``squared``), half a squared error."""
    if squared:
        return (target - logits.sigmoid()).square() / 2
    return F.binary_cross_entropy_with_logits(logits, target, reduction='none')


def _smallest(bound: float | Sequence[float] | None) -> float:
    if bound is None:
        return math.inf
    return min(bound) if isinstance(bound, list | tuple) else bound


def _of_level(value: Any, level: int) -> Any:
    return value[level] if isinstance(value, list | tuple) else value


def _corner(slots: Slots, grid: GridLevel, like: Tensor) -> Tensor:
    return cell_xy(slots.index, grid.size[1]).to(like)


def _cells(grid: GridLevel, like: Tensor) -> Tensor:
    return constant([grid.size[1], grid.size[0]], like)


@MODELS.register_module()
class YOLOV3Loss(DarknetLoss):
    """:class:`DarknetLoss` with the options of yolov3.cfg: squares for boxes."""


@MODELS.register_module()
class YOLOV4Loss(DarknetLoss):
    """:class:`DarknetLoss` with the options of yolov4.cfg: CIoU, clipped to 5.

    yolov4-csp.cfg: ``iou_normalizer=0.05, cls_normalizer=0.5, obj_normalizer=(4, 1, 0.4),
    objectness_smooth=(False, True, True), max_delta=(5, 5, 2)``.
    """

    def __init__(
        self,
        box: BoxTerm = 'ciou',
        iou_normalizer: float | Sequence[float] = 0.07,
        max_delta: float | Sequence[float] | None = 5.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(box, iou_normalizer=iou_normalizer, max_delta=max_delta, **kwargs)
