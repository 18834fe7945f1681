"""Criterion of Scaled-YOLOv4."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_losses.core import DetectorLoss, build_regression, check_levels, compare_boxes
from mmdet_losses.detectors.yolo.cells import JoinedGrid
from mmdet_losses.detectors.yolo.contracts import ScaledYOLOV4Outputs, ScaledYOLOV4Targets
from mmdet_losses.detectors.yolo.grids import Slots, grid_sizes
from mmdet_losses.detectors.yolo.joined import (
    JoinedMaps,
    join_hidden,
    join_slots,
    slots_per_map,
)
from mmdet_losses.detectors.yolo.maps import by_anchor, one_hot, put_cells
from mmdet_losses.ops import boxes_around, constant, masked_sum, process_count
from mmdet_losses.registry import MODELS

BALANCE = {3: (4.0, 1.0, 0.4), 4: (4.0, 1.0, 0.4, 0.1), 5: (4.0, 1.0, 0.5, 0.4, 0.1)}
FOCAL_ALPHA = 0.25


@MODELS.register_module()
class ScaledYOLOV4Loss(DetectorLoss[ScaledYOLOV4Outputs, ScaledYOLOV4Targets]):
    r"""CIoU, objectness with the current CIoU as target, and binary entropies of the classes.

    Convention:
        Box and class terms are means over the positive slots of a map, summed over maps, so each
        map has the same weight; a cell that occurs twice counts twice. Without positives they are
        zero. The objectness term is the mean over all cells of a map times the map's ``balance``;
        its target is the detached CIoU of the last slot of the cell, at least 0. Cells in ignored
        regions have no objectness term, but count in the mean. For L maps, box
        and class gains are multiplied by 3 / L, objectness also by 1.4 from four maps on, and the
        class gain by C / 80. All terms are multiplied by the number of images in the batch and by
        the number of training processes, as in the official code: DDP averages gradients over
        processes, so the result is their sum.

    Args:
        loss_box: a term of boxes, which gets xyxy boxes in cells (n, 4) and returns one value per
            box with ``reduction_override='none'``; default ``BoxIoULoss`` (CIoU). The objectness
            target is 1 minus its value.
        box_gain, obj_gain, cls_gain: factors of the terms.
        obj_pos_weight, cls_pos_weight: weight of the positive half of each binary entropy.
        balance: objectness factor of each map; by default the official ones for 3, 4 or 5 maps.
        iou_ratio: share of the CIoU in the objectness target; the rest is 1.
        gamma: above 0, focal modulation of both entropies with alpha 0.25.
        class_weight: factors of the class costs of each class.

    The weight of an object multiplies its box, objectness and class costs.

    Raises:
        ValueError: ``balance`` does not fit the number of maps, or maps do not fit the targets.

    Reference:
        Wang et al., *Scaled-YOLOv4*, 2021; constants of the authors' PyTorch code.
    """

    def __init__(
        self,
        loss_box: dict | None = None,
        box_gain: float = 0.05,
        obj_gain: float = 1.0,
        cls_gain: float = 0.5,
        obj_pos_weight: float = 1.0,
        cls_pos_weight: float = 1.0,
        balance: Sequence[float] | None = None,
        iou_ratio: float = 1.0,
        gamma: float = 0.0,
        init_cfg: dict | None = None,
        class_weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__(init_cfg, class_weight)
        loss_box = loss_box or {'type': 'BoxIoULoss', 'mode': 'ciou'}
        self.loss_box = build_regression(loss_box, 'loss_box', 'boxes')
        if getattr(self.loss_box, 'loss_weight', 1.0) == 0:
            raise ValueError(
                'loss_box has loss_weight=0, but the objectness target is computed from it; set '
                'box_gain=0 to leave the box term out.'
            )
        self.box_gain, self.obj_gain, self.cls_gain = box_gain, obj_gain, cls_gain
        self.obj_pos_weight, self.cls_pos_weight = obj_pos_weight, cls_pos_weight
        self.balance, self.iou_ratio, self.gamma = balance, iou_ratio, gamma

    def forward(
        self, outputs: ScaledYOLOV4Outputs, targets: ScaledYOLOV4Targets
    ) -> dict[str, Tensor]:
        """Returns ``loss_box, loss_obj, loss_cls``."""
        count = len(outputs.levels)
        check_levels(count, len(targets.levels), 'the list of target maps')
        balance = BALANCE.get(count) if self.balance is None else self.balance
        if balance is None or len(balance) != count:
            raise ValueError(f'balance={balance} does not fit {count} maps; give one per map.')
        box, obj, cls = self._terms(outputs, targets, balance)
        shared, images = 3 / count * process_count(), len(outputs.levels[0])
        obj_gain = self.obj_gain * (1.4 if count >= 4 else 1.0)
        return {
            'loss_box': self.box_gain * shared * images * box,
            'loss_obj': obj_gain * shared * obj,
            'loss_cls': self.cls_gain / 80 * shared * images * cls,
        }

    def _terms(
        self, outputs: ScaledYOLOV4Outputs, targets: ScaledYOLOV4Targets, balance: Sequence[float]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Box, objectness and class term of all maps.

        Sums over maps of the mean over positive slots, the balanced mean over the cells of an
        image, and C times the mean over positive slots and classes.
        """
        levels = targets.levels
        counts = [len(level.grid.anchors) for level in levels]
        pairs = zip(outputs.levels, counts, strict=True)
        values = JoinedMaps.of([by_anchor(each, n) for each, n in pairs])
        slots = join_slots(
            [Slots(e.grid, e.index, e.mask, e.box, e.labels, e.weights) for e in levels]
        )
        grid, mask, place = slots.grid, slots.mask, slots.place()
        assert isinstance(grid, JoinedGrid)
        obj, found = values.read(slots.index)

        with torch.no_grad():
            share = 1 / slots_per_map(slots).to(obj)
            share = share if slots.weights is None else share * slots.weights
        xy = place.offset(found.xy)
        wh = grid_sizes(found.wh, place.anchors * place.sides, grid.squared)
        goal = boxes_around(slots.boxes[..., :2], slots.boxes[..., 2:]).to(xy)
        cost = compare_boxes(
            self.loss_box, boxes_around(xy, wh), goal, mask, reduction_override='none'
        )

        with torch.no_grad():
            last = slots.last().mask
            iou = (1 - cost / getattr(self.loss_box, 'loss_weight', 1.0)).clamp(min=0)
            score = 1 - self.iou_ratio + self.iou_ratio * iou
            wanted = put_cells(score, slots.index, last, grid.cells)
            shares = [each / n for each, n in zip(balance, grid.lengths, strict=True)]
            weight = grid.by_map(shares, obj.dtype)
            if slots.weights is not None:
                weight = weight * put_cells(slots.weights, slots.index, last, grid.cells, 1)
            if targets.hidden is not None:
                weight = weight * (slots.claimed() | ~join_hidden(targets.hidden))
        loss_obj = (self._entropy(obj, wanted, self.obj_pos_weight) * weight).sum()
        return masked_sum(cost * share, mask), loss_obj, self._classes(found.cls, slots, share)

    def _classes(self, logits: Tensor, slots: Slots, share: Tensor) -> Tensor:
        classes = logits.shape[-1]
        if classes == 1:  # the official code trains no class term for one class
            return masked_sum(logits, torch.zeros_like(logits, dtype=torch.bool))
        cost = self._entropy(logits, one_hot(slots.labels, logits), self.cls_pos_weight)
        weights = self.weights(classes)
        cost = cost if weights is None else cost * weights
        return masked_sum(cost * share[..., None], slots.mask[..., None])

    def _entropy(self, logits: Tensor, target: Tensor, pos_weight: float) -> Tensor:
        weight = constant(pos_weight, logits)
        cost = F.binary_cross_entropy_with_logits(
            logits, target, pos_weight=weight, reduction='none'
        )
        if self.gamma <= 0:
            return cost
        score = logits.sigmoid()
        right = target * score + (1 - target) * (1 - score)
        alpha = target * FOCAL_ALPHA + (1 - target) * (1 - FOCAL_ALPHA)
        return cost * alpha * (1 - right) ** self.gamma
