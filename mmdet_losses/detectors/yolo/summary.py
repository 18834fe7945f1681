"""The YOLO formulas as a widely read summary gives them, beside those that darknet runs.

They differ in thresholds, weights and normalisation; ``convention='notes'`` of the criteria and
encoders selects them. Sums over the batch, nothing is divided.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_losses.detectors.yolo.contracts import GridLevel, GridTargets
from mmdet_losses.detectors.yolo.darknet_encoder import cell_targets, grid_boxes, grid_sizes
from mmdet_losses.detectors.yolo.maps import (
    RawLevel,
    last_in_cell,
    put_cells,
    split_level,
    take_cells,
)
from mmdet_losses.ops import (
    best_overlap,
    box_similarity,
    boxes_around,
    cell_xy,
    constant,
    masked_sum,
)

COORD = 5.0
NO_OBJECT = 0.5
NEGATIVE_IOU = 0.3


def grid_notes_loss(
    levels: Sequence[Tensor], targets: GridTargets, box: Literal['mse', 'ciou', 'v2']
) -> dict[str, Tensor]:
    r"""YOLOv2 ('v2'), YOLOv3 ('mse') or YOLOv4 ('ciou').

    Convention:
        Of several objects that claim one anchor of a cell the last has it. 5 weighs the box
        terms, 0.5 the objectness of anchors without an object.

        * 'mse': mean of the two squared differences of the centre in its cell, and of the two raw
          sizes; binary entropies of objectness and classes; a prediction whose IoU with some
          object is 0.3 or more is no negative.
        * 'ciou': 1 - CIoU in place of both squares.
        * 'v2': the sums of squares of YOLOv1's formula, over centres in their cell and square
          roots of sizes as fractions of the image; squared errors of the objectness (towards 1
          and 0) and of the class probabilities, a softmax.
    """
    each = [
        _level(split_level(level, len(grid.anchors)), grid, targets, box)
        for level, grid in zip(levels, targets.levels, strict=True)
    ]
    return {name: sum(terms[name] for terms in each) for name in each[0]}


def _level(raw: RawLevel, grid: GridLevel, targets: GridTargets, box: str) -> dict[str, Tensor]:
    cells = raw.obj.shape[2]
    index = grid.index[:, None].expand_as(grid.positive)
    mask = last_in_cell(index, grid.positive, cells)
    claimed = put_cells(mask, index, mask, cells)
    terms = _boxes(raw, grid, targets.boxes, index, mask, box)
    logits = take_cells(raw.cls, index)
    classes = torch.arange(logits.shape[-1], device=logits.device)
    own = (targets.labels[..., None] == classes).to(logits)[:, None].expand_as(logits)
    if box == 'v2':
        cost = (raw.obj.sigmoid() - claimed.to(raw.obj)).square()
        negative = ~claimed
        errors = (logits.softmax(-1) - own).square()
    else:
        cost = F.binary_cross_entropy_with_logits(raw.obj, claimed.to(raw.obj), reduction='none')
        center, size = grid_boxes(raw, grid.size, grid.anchors, grid.scale_xy, grid.squared)
        far = best_overlap(center, size, targets.boxes, targets.mask) < NEGATIVE_IOU
        negative = ~claimed & far
        errors = F.binary_cross_entropy_with_logits(logits, own, reduction='none')
    return {
        **terms,
        'loss_obj': masked_sum(cost, claimed),
        'loss_noobj': NO_OBJECT * masked_sum(cost, negative),
        'loss_cls': masked_sum(errors, mask[..., None]),
    }


def _boxes(
    raw: RawLevel, grid: GridLevel, boxes: Tensor, index: Tensor, mask: Tensor, box: str
) -> dict[str, Tensor]:
    xy, wh = take_cells(raw.xy, index), take_cells(raw.wh, index)
    shift = xy.sigmoid() * grid.scale_xy - (grid.scale_xy - 1) / 2
    goal_xy, goal_wh = cell_targets(grid, boxes)
    size = grid_sizes(wh, grid.anchors[:, None], grid.squared)
    if box == 'ciou':
        cells = constant([grid.size[1], grid.size[0]], shift)
        center = (shift + cell_xy(index, grid.size[1]).to(shift)) / cells
        goal = boxes_around(boxes[..., :2], boxes[..., 2:])[:, None]
        cost = 1 - box_similarity(boxes_around(center, size), goal, 'ciou')
        return {'loss_box': COORD * masked_sum(cost, mask)}
    off_xy = (shift - goal_xy[:, None]).square()
    if box == 'v2':
        roots = torch.where(mask[..., None], boxes[:, None, :, 2:], 1).sqrt()
        off_wh, fold = (size.sqrt() - roots).square(), 1
    else:
        off_wh, fold = (wh - goal_wh).square(), 2
    return {
        'loss_xy': COORD / fold * masked_sum(off_xy, mask[..., None]),
        'loss_wh': COORD / fold * masked_sum(off_wh, mask[..., None]),
    }
