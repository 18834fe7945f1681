"""Criterion of Scaled-YOLOv4."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_losses.core import DetectorLoss, build_term
from mmdet_losses.detectors.yolo.contracts import (
    ScaledLevel,
    ScaledYOLOV4Outputs,
    ScaledYOLOV4Targets,
)
from mmdet_losses.detectors.yolo.maps import (
    check_levels,
    last_in_cell,
    put_cells,
    split_level,
    take_cells,
)
from mmdet_losses.ops import at_least_one, boxes_around, masked_sum, process_count
from mmdet_losses.registry import MODELS

BALANCE = {3: (4.0, 1.0, 0.4), 4: (4.0, 1.0, 0.4, 0.1), 5: (4.0, 1.0, 0.5, 0.4, 0.1)}


@MODELS.register_module()
class ScaledYOLOV4Loss(DetectorLoss[ScaledYOLOV4Outputs, ScaledYOLOV4Targets]):
    r"""CIoU, objectness towards the CIoU that is reached, and one binary entropy a class.

    Wang et al., *Scaled-YOLOv4*; constants of the authors' PyTorch code.

    Convention:
        Box and class terms are means over the positive slots of a map, then summed over maps, so
        a map with few positives weighs as much as one with many; a cell that is listed twice
        counts twice. The objectness term is a mean over all cells of a map, times that map's
        ``balance``; its target is the detached CIoU of the last slot of the cell, not below 0.
        Box and class gains are scaled by 3 / L for L maps, objectness by 1.4 more from four maps
        on, the class gain by C / 80. Everything is multiplied by the images of the batch and by
        the number of training processes, as the official code does: gradients are averaged over
        processes, so their sum remains. Where nothing is positive, box and class terms are zero.

    Args:
        loss_box: a term ``(pred, target, weight, avg_factor)`` over xyxy boxes in cells whose
            ``reduction_override='none'`` gives one value a box; default ``BoxIoULoss`` (CIoU).
        box_gain, obj_gain, cls_gain: factors of the terms.
        obj_pos_weight, cls_pos_weight: weight of the positive half of each binary entropy.
        balance: factor of each map's objectness; default the official lists for 3, 4 and 5 maps.
        iou_ratio: share of the CIoU in the objectness target, the rest is 1.
        gamma: above 0, focal modulation with alpha 0.25 of the two entropies.

    Raises:
        ValueError: no balance for that number of maps, or maps that do not fit the targets.
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
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.loss_box = build_term(loss_box or {'type': 'BoxIoULoss', 'mode': 'ciou'})
        if getattr(self.loss_box, 'loss_weight', 1.0) == 0:
            raise ValueError(
                'loss_weight=0 of loss_box would leave objectness without the overlap that it '
                'learns; leave the box term out by box_gain=0.'
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
            raise ValueError(f'balance has no entry for each of the {count} maps; give {count}.')
        terms = [
            self._level(level, target)
            for level, target in zip(outputs.levels, targets.levels, strict=True)
        ]
        classes = outputs.levels[0].shape[1] // len(targets.levels[0].anchors) - 5
        shared = 3 / count * outputs.levels[0].shape[0] * process_count()
        obj = sum(weight * term[1] for weight, term in zip(balance, terms, strict=True))
        return {
            'loss_box': self.box_gain * shared * sum(term[0] for term in terms),
            'loss_obj': self.obj_gain * shared * (1.4 if count >= 4 else 1.0) * obj,
            'loss_cls': self.cls_gain * classes / 80 * shared * sum(term[2] for term in terms),
        }

    def _level(self, level: Tensor, target: ScaledLevel) -> tuple[Tensor, Tensor, Tensor]:
        raw = split_level(level, len(target.anchors))
        positives = at_least_one(target.mask.sum())
        xy = take_cells(raw.xy, target.index).sigmoid() * 2 - 0.5
        wh = (take_cells(raw.wh, target.index).sigmoid() * 2).square() * target.anchors[:, None]
        pred = boxes_around(xy, wh)
        goal = boxes_around(target.box[..., :2], target.box[..., 2:]).to(pred)
        cost = self.loss_box(pred, goal, reduction_override='none')
        box = masked_sum(cost, target.mask) / positives

        cells = target.size[0] * target.size[1]
        with torch.no_grad():
            last = last_in_cell(target.index, target.mask, cells)
            reached = (1 - cost / getattr(self.loss_box, 'loss_weight', 1.0)).clamp(min=0)
            score = 1 - self.iou_ratio + self.iou_ratio * reached
            wanted = put_cells(score, target.index, last, cells)
        obj = self._entropy(raw.obj, wanted, self.obj_pos_weight).mean()

        logits = take_cells(raw.cls, target.index)
        classes = logits.shape[-1]
        if classes <= 1:
            return box, obj, masked_sum(logits, torch.zeros_like(logits, dtype=torch.bool))
        own = target.labels[..., None] == torch.arange(classes, device=logits.device)
        entropy = self._entropy(logits, own.to(logits), self.cls_pos_weight)
        cls = masked_sum(entropy, target.mask[..., None]) / (positives * classes)
        return box, obj, cls

    def _entropy(self, logits: Tensor, target: Tensor, pos_weight: float) -> Tensor:
        weight = logits.new_full((), pos_weight)
        cost = F.binary_cross_entropy_with_logits(
            logits, target, pos_weight=weight, reduction='none'
        )
        if self.gamma <= 0:
            return cost
        score = logits.sigmoid()
        right = target * score + (1 - target) * (1 - score)
        alpha = target * 0.25 + (1 - target) * 0.75
        return cost * alpha * (1 - right) ** self.gamma
