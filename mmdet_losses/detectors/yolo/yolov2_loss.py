"""Criterion of YOLOv2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from mmdet_losses.core import check_levels, sum_terms
from mmdet_losses.detectors.yolo.class_term import ClassOptions, class_targets
from mmdet_losses.detectors.yolo.class_tree import ClassTree
from mmdet_losses.detectors.yolo.contracts import GridTargets, YOLOV2Outputs
from mmdet_losses.detectors.yolo.darknet_encoder import CODES, Code
from mmdet_losses.detectors.yolo.darknet_loss import entropy, weigh
from mmdet_losses.detectors.yolo.grids import (
    Slots,
    grid_boxes,
    grid_sizes,
    object_slots,
    positive_factors,
    slot_boxes,
    slot_targets,
    take_boxes,
)
from mmdet_losses.detectors.yolo.image_count import ImageCountLoss
from mmdet_losses.detectors.yolo.maps import RawLevel, put_cells, split_level, take_cells
from mmdet_losses.detectors.yolo.summary import summary_loss
from mmdet_losses.ops import (
    best_overlap,
    check_choice,
    darknet_iou,
    masked_sum,
    shape_iou,
)
from mmdet_losses.registry import MODELS

PRIOR_SCALE = 0.01


@MODELS.register_module()
class YOLOV2Loss(ImageCountLoss[YOLOV2Outputs, GridTargets]):
    r"""darknet's [region] layer: its delta is minus the gradient of these terms.

    Convention:
        Half squared errors of the sigmoid of the centre, the raw size and the sigmoid of the
        objectness; softmax cross-entropy of the classes. The objectness target of an anchor with
        an object is its current IoU (``rescore``), of every other anchor 0. A prediction without
        an object whose IoU with any object is above ``ignore_threshold`` is ignored. Of several
        objects with one anchor of a cell the last is used. During the first ``warmup_images``
        images every other anchor is trained towards the centre of its cell and its own size, with
        weight 0.01. Sums over the batch; darknet divides by the batch size in its learning rate,
        ``normalizer='images'`` divides here.

        The two programs called darknet differ (``code``): 'redmon' weighs the box of an object by
        2 - w h, 'alexeyab' does not. Only 'redmon' has ``softmax=False`` and ``background``. With
        ``background`` a softmax over objectness and classes has the objectness as background
        class, with the target 1 for negatives; each delta moves its own logit only, as there.

    Args:
        object_scale, no_object_scale, class_scale, coord_scale: weights.
        code: 'redmon' or 'alexeyab', see above.
        softmax: with False the classes are binary entropies, and objects that share one anchor of
            a cell make it multi-label.
        background: see above.
        rescore: see above; with False the target is 1.
        ignore_threshold: see above.
        match_shape: an object keeps the anchor that the encoder chose; with False it gets the
            anchor whose current size in the object's cell fits best (darknet's ``bias_match=0``).
        warmup_images: see above; the current batch counts.
        convention: 'darknet', or 'summary' for
            :func:`~mmdet_losses.detectors.yolo.summary.summary_loss`.
        normalizer: 'nothing' or 'images'.
        class_weight: factors of the class costs of each class.
        tree: parents of the classes (:class:`~mmdet_losses.detectors.yolo.class_tree.ClassTree`);
            the class cost is -log P of the label, the sum of the cross-entropies on its path.

    The weight of an object multiplies its box, objectness and class costs.

    Raises:
        ValueError: an unknown choice, an option that the program does not have, or maps that do
            not fit the targets.

    Reference:
        Redmon and Farhadi, *YOLO9000*, 2017, section 2.
    """

    def __init__(
        self,
        object_scale: float = 5.0,
        no_object_scale: float = 1.0,
        class_scale: float = 1.0,
        coord_scale: float = 1.0,
        code: Code = 'redmon',
        softmax: bool = True,
        background: bool = False,
        rescore: bool = True,
        ignore_threshold: float = 0.6,
        match_shape: bool = True,
        warmup_images: int = 12800,
        convention: Literal['darknet', 'summary'] = 'darknet',
        normalizer: Literal['nothing', 'images'] = 'nothing',
        init_cfg: dict | None = None,
        class_weight: Sequence[float] | None = None,
        tree: Sequence[int] | None = None,
    ) -> None:
        super().__init__(init_cfg, class_weight)
        check_choice('convention', convention, ('darknet', 'summary'))
        check_choice('normalizer', normalizer, ('nothing', 'images'))
        check_choice('code', code, CODES)
        if code == 'alexeyab' and (background or not softmax):
            raise ValueError(
                "background=True and softmax=False do not exist in code='alexeyab'; use "
                "code='redmon'."
            )
        if tree is not None and (background or not softmax or convention == 'summary'):
            raise ValueError(
                "tree needs softmax=True, background=False and convention='darknet'; remove the "
                'other option, or tree.'
            )
        self.tree = None if tree is None else ClassTree(tree)
        self.code: Code = code
        self.softmax, self.background = softmax, background
        self.object_scale, self.no_object_scale = object_scale, no_object_scale
        self.class_scale, self.coord_scale = class_scale, coord_scale
        self.rescore, self.ignore_threshold = rescore, ignore_threshold
        self.match_shape, self.warmup_images = match_shape, warmup_images
        self.convention, self.normalizer = convention, normalizer

    def forward(self, outputs: YOLOV2Outputs, targets: GridTargets) -> dict[str, Tensor]:
        """Returns ``loss_xy, loss_wh, loss_obj, loss_noobj, loss_cls``."""
        check_levels(len(outputs.levels), len(targets.levels), 'the list of target maps')
        batch = len(outputs.levels[0])
        self.count_images(batch)
        if self.convention == 'summary':
            terms = [summary_loss(outputs.levels, targets, 'v2', self.weights)]
        else:
            terms = [
                self._level(
                    split_level(level, len(target.grid.anchors)),
                    object_slots(target, targets),
                    targets,
                    None if targets.hidden is None else targets.hidden[i],
                )
                for i, (level, target) in enumerate(
                    zip(outputs.levels, targets.levels, strict=True)
                )
            ]
        divisor = batch if self.normalizer == 'images' else 1
        return {name: term / divisor for name, term in sum_terms(terms).items()}

    def _level(
        self, raw: RawLevel, slots: Slots, targets: GridTargets, hidden: Tensor | None
    ) -> dict[str, Tensor]:
        """All terms of one map."""
        xy, wh = take_boxes(raw, slots)
        if not self.match_shape:
            slots = slots._replace(mask=claims_by_current_size(wh, slots, targets))
        with torch.no_grad():
            last, claimed = slots.last(), slots.claimed()
            best = best_overlap(*grid_boxes(raw, slots.grid), targets.boxes, targets.mask)
            negative = ~claimed & (best <= self.ignore_threshold)
            negative = negative if hidden is None else negative & ~hidden
            wanted = claimed.to(raw.obj)
            if self.rescore:
                iou = darknet_iou(slot_boxes(xy, wh, slots), slots.boxes)
                wanted = put_cells(iou, last.index, last.mask, slots.grid.cells)
        if self.background:
            positive_cost, negative_cost = _background_costs(raw, last, negative)
        else:
            cost = (raw.obj.sigmoid() - wanted).square() / 2
            cost = cost if slots.weights is None else cost * positive_factors(slots)
            positive_cost, negative_cost = masked_sum(cost, claimed), masked_sum(cost, negative)
        return {
            **self._boxes(raw, xy, wh, last, claimed),
            'loss_obj': self.object_scale * positive_cost,
            'loss_noobj': self.no_object_scale * negative_cost,
            'loss_cls': self.class_scale * self._classes(raw, slots, last),
        }

    def _boxes(
        self, raw: RawLevel, xy: Tensor, wh: Tensor, slots: Slots, claimed: Tensor
    ) -> dict[str, Tensor]:
        goal_xy, goal_wh = slot_targets(slots)
        here, free = slots.mask[..., None], ~claimed[:, :, None]
        weight = torch.ones_like(xy) * self.coord_scale
        if self.code == 'redmon':
            weight = weight * (2 - slots.boxes[..., 2:].prod(-1, keepdim=True))
        if slots.weights is not None:
            weight = weight * slots.weights[..., None]
        prior = PRIOR_SCALE * (self.seen < self.warmup_images)
        off_xy = masked_sum(weight * (goal_xy - xy.sigmoid()).square(), here)
        off_wh = masked_sum(weight * (goal_wh - wh).square(), here)
        off_xy = off_xy + prior * masked_sum((raw.xy.sigmoid() - 0.5).square(), free)
        off_wh = off_wh + prior * masked_sum(raw.wh.square(), free)
        return {'loss_xy': off_xy / 2, 'loss_wh': off_wh / 2}

    def _classes(self, raw: RawLevel, slots: Slots, last: Slots) -> Tensor:
        logits = take_cells(raw.cls, slots.index)
        weights = self.weights(logits.shape[-1])
        own = logits.new_ones(()) if slots.weights is None else slots.weights
        if not self.softmax:
            with torch.no_grad():
                classes = class_targets(logits, slots, ClassOptions(self.code))
            cost = weigh(entropy(logits, classes.target, False), weights) * own[..., None]
            return masked_sum(cost, classes.first[..., None])
        if self.background:
            obj = take_cells(raw.obj, slots.index)[..., None].detach()
            logits = torch.cat((logits, obj), -1)
        cost = _negative_log(logits, slots.labels, self.tree)
        cost = cost if weights is None else cost * weights[slots.labels]
        return masked_sum(cost * own, last.mask)


def _background_costs(raw: RawLevel, slots: Slots, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of positives and negatives as functions of the background logits alone."""
    logs = torch.cat((raw.cls.detach(), raw.obj.unsqueeze(2)), 2).log_softmax(2)
    own = take_cells(logs, slots.index).gather(-1, slots.labels[..., None]).squeeze(-1)
    own = own if slots.weights is None else own * slots.weights
    return masked_sum(-own, slots.mask), masked_sum(-logs[:, :, -1], negative)


def _negative_log(logits: Tensor, labels: Tensor, tree: ClassTree | None) -> Tensor:
    """Softmax cross-entropy of each slot, from (B, A, K, C) and (B, A, K)."""
    logs = logits.log_softmax(-1) if tree is None else tree.log_probabilities(logits)
    return -logs.gather(-1, labels[..., None]).squeeze(-1)


def claims_by_current_size(wh: Tensor, slots: Slots, targets: GridTargets) -> Tensor:
    """The anchor of the object's cell whose predicted size fits best: (B, A, M) bool."""
    size = grid_sizes(wh, slots.place().anchors, slots.grid.squared).transpose(1, 2)  # (B, M, A, 2)
    overlap = shape_iou(targets.boxes[:, :, None, 2:], size).squeeze(2)
    anchors = torch.arange(size.shape[2], device=size.device)
    claims = (anchors == overlap.argmax(-1, keepdim=True)) & targets.mask[..., None]
    return claims.transpose(1, 2)
