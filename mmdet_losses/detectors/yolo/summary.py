"""YOLO losses as written in a public summary of one-stage detector losses.

The formulas of ``convention='summary'``. They differ from darknet's in thresholds, weights and
normalisation. Sums over the batch, without a divisor.

Reference:
    "Summary of One Stage Model Loss", public notes on HackMD, sections on YOLOv1 to YOLOv4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_losses.detectors.yolo.contracts import GridTargets
from mmdet_losses.detectors.yolo.grids import (
    Slots,
    grid_boxes,
    grid_roots,
    object_slots,
    positive_factors,
    slot_similarity,
    slot_targets,
    take_boxes,
)
from mmdet_losses.detectors.yolo.joined import join_hidden, join_maps, join_slots
from mmdet_losses.detectors.yolo.maps import RawLevel, by_anchor, one_hot, parts, take_cells
from mmdet_losses.ops import best_overlap, masked_sum

Formula = Literal['v2', 'mse', 'ciou']
COORD = 5.0
NO_OBJECT = 0.5
NEGATIVE_IOU = 0.3


def summary_loss(
    levels: Sequence[Tensor],
    targets: GridTargets,
    formula: Formula,
    weights: Callable[[int], Tensor | None],
) -> dict[str, Tensor]:
    r"""YOLOv2 ('v2'), YOLOv3 ('mse') or YOLOv4 ('ciou').

    Args:
        weights: class weights (C,) of C classes, or None.

    Convention:
        Of several objects with one anchor of a cell the last is used. The box terms have weight
        5, the objectness of anchors without an object 0.5.

        * 'mse': mean of the two squared differences of the centre in its cell, and of the raw
          sizes; binary entropies of objectness and classes; a prediction with an IoU of 0.3 or
          more with any object is not a negative.
        * 'ciou': 1 - CIoU instead of both squares.
        * 'v2': YOLOv1's sums of squares, over centres in their cell and square roots of sizes as
          fractions of the image; squared errors of the objectness (targets 1 and 0) and of the
          softmax of the classes.
    """
    grids = [level.grid for level in targets.levels]
    pairs = zip(levels, grids, strict=True)
    values = join_maps([by_anchor(level, len(grid.anchors)) for level, grid in pairs])
    slots = join_slots([object_slots(level, targets) for level in targets.levels]).last()
    raw, claimed = parts(values.unsqueeze(1)), slots.claimed()
    logits = take_cells(raw.cls, slots.index)
    own = one_hot(slots.labels, logits)
    if formula == 'v2':
        cost = (raw.obj.sigmoid() - claimed.to(raw.obj)).square()
        negative = ~claimed
        errors = (logits.softmax(-1) - own).square()
    else:
        cost = F.binary_cross_entropy_with_logits(raw.obj, claimed.to(raw.obj), reduction='none')
        best = best_overlap(*grid_boxes(raw, slots.grid), targets.boxes, targets.mask)
        negative = ~claimed & (best < NEGATIVE_IOU)
        errors = F.binary_cross_entropy_with_logits(logits, own, reduction='none')
    if slots.weights is not None:
        cost, errors = cost * positive_factors(slots), errors * slots.weights[..., None]
    class_weight, hidden = weights(logits.shape[-1]), join_hidden(targets.hidden)
    errors = errors if class_weight is None else errors * class_weight
    negative = negative if hidden is None else negative & ~hidden
    return {
        **_boxes(raw, slots, formula),
        'loss_obj': masked_sum(cost, claimed),
        'loss_noobj': NO_OBJECT * masked_sum(cost, negative),
        'loss_cls': masked_sum(errors, slots.mask[..., None]),
    }


def _boxes(raw: RawLevel, slots: Slots, formula: str) -> dict[str, Tensor]:
    xy, wh = take_boxes(raw, slots)
    own = xy.new_ones(()) if slots.weights is None else slots.weights
    if formula == 'ciou':
        similarity = slot_similarity(xy, wh, slots, 'ciou')
        return {'loss_box': COORD * masked_sum((1 - similarity) * own, slots.mask)}
    goal_xy, goal_wh = slot_targets(slots)
    place = slots.place()
    off_xy = (place.offset(xy) - goal_xy).square()
    off_wh = (wh - goal_wh).square()
    if formula == 'v2':
        roots = torch.where(slots.mask[..., None], slots.boxes[..., 2:], 1).sqrt()
        off_wh = (grid_roots(wh, place.anchors, slots.grid.squared) - roots).square()
    weight = COORD if formula == 'v2' else COORD / 2
    return {
        'loss_xy': weight * masked_sum(off_xy * own[..., None], slots.mask[..., None]),
        'loss_wh': weight * masked_sum(off_wh * own[..., None], slots.mask[..., None]),
    }
