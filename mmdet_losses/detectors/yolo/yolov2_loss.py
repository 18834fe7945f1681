"""Criterion of YOLOv2."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from mmdet_losses.core import DetectorLoss, check_levels
from mmdet_losses.detectors.yolo.contracts import GridTargets, YOLOV2Outputs
from mmdet_losses.detectors.yolo.grids import (
    Slots,
    grid_boxes,
    grid_sizes,
    object_slots,
    slot_boxes,
    slot_targets,
    take_boxes,
)
from mmdet_losses.detectors.yolo.maps import RawLevel, put_cells, split_level, take_cells
from mmdet_losses.detectors.yolo.summary import summary_loss
from mmdet_losses.ops import (
    best_overlap,
    check_choice,
    darknet_iou,
    masked_sum,
    process_count,
    shape_iou,
)
from mmdet_losses.registry import MODELS

PRIOR_SCALE = 0.01


@MODELS.register_module()
class YOLOV2Loss(DetectorLoss[YOLOV2Outputs, GridTargets]):
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

    Args:
        object_scale, no_object_scale, class_scale, coord_scale: weights.
        rescore: see above; with False the target is 1.
        ignore_threshold: see above.
        match_shape: an object keeps the anchor that the encoder chose; with False it gets the
            anchor whose current size in the object's cell fits best (darknet's ``bias_match=0``).
        warmup_images: see above. The buffer ``seen`` counts the images of all processes during
            training, including the current batch. It is saved, so a resumed training continues
            the count; a checkpoint without it (converted weights) loads strictly and does not
            change it.
        convention: 'darknet', or 'summary' for
            :func:`~mmdet_losses.detectors.yolo.summary.summary_loss`.
        normalizer: 'nothing' or 'images'.

    Raises:
        ValueError: an unknown choice, or maps that do not fit the targets.

    Reference:
        Redmon and Farhadi, *YOLO9000*, 2017, section 2.
    """

    def __init__(
        self,
        object_scale: float = 5.0,
        no_object_scale: float = 1.0,
        class_scale: float = 1.0,
        coord_scale: float = 1.0,
        rescore: bool = True,
        ignore_threshold: float = 0.6,
        match_shape: bool = True,
        warmup_images: int = 12800,
        convention: Literal['darknet', 'summary'] = 'darknet',
        normalizer: Literal['nothing', 'images'] = 'nothing',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_choice('convention', convention, ('darknet', 'summary'))
        check_choice('normalizer', normalizer, ('nothing', 'images'))
        self.object_scale, self.no_object_scale = object_scale, no_object_scale
        self.class_scale, self.coord_scale = class_scale, coord_scale
        self.rescore, self.ignore_threshold = rescore, ignore_threshold
        self.match_shape, self.warmup_images = match_shape, warmup_images
        self.convention, self.normalizer = convention, normalizer
        self.register_buffer('seen', torch.zeros((), dtype=torch.int64))

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        if f'{prefix}seen' not in state:
            state = {**state, f'{prefix}seen': self.seen}
        super()._load_from_state_dict(state, prefix, *args)

    def forward(self, outputs: YOLOV2Outputs, targets: GridTargets) -> dict[str, Tensor]:
        """Returns ``loss_xy, loss_wh, loss_obj, loss_noobj, loss_cls``."""
        check_levels(len(outputs.levels), len(targets.levels), 'the list of target maps')
        batch = len(outputs.levels[0])
        if self.training:
            self.seen += batch * process_count()
        if self.convention == 'summary':
            terms = [summary_loss(outputs.levels, targets, 'v2')]
        else:
            terms = [
                self._level(
                    split_level(level, len(target.grid.anchors)),
                    object_slots(target, targets),
                    targets,
                )
                for level, target in zip(outputs.levels, targets.levels, strict=True)
            ]
        divisor = batch if self.normalizer == 'images' else 1
        return {name: sum(each[name] for each in terms) / divisor for name in terms[0]}

    def _level(self, raw: RawLevel, slots: Slots, targets: GridTargets) -> dict[str, Tensor]:
        """All terms of one map."""
        xy, wh = take_boxes(raw, slots)
        if not self.match_shape:
            slots = slots._replace(mask=_claims_by_current_size(wh, slots, targets))
        slots = slots.last()
        logs = take_cells(raw.cls, slots.index).log_softmax(-1)
        own = logs.gather(-1, slots.labels[..., None]).squeeze(-1)
        return {
            **self._boxes(raw, xy, wh, slots),
            **self._objectness(raw, xy, wh, slots, targets),
            'loss_cls': self.class_scale * masked_sum(-own, slots.mask),
        }

    def _boxes(self, raw: RawLevel, xy: Tensor, wh: Tensor, slots: Slots) -> dict[str, Tensor]:
        goal_xy, goal_wh = slot_targets(slots)
        here, free = slots.mask[..., None], ~slots.claimed()[:, :, None]
        off_xy = self.coord_scale * masked_sum((goal_xy - xy.sigmoid()).square(), here)
        off_wh = self.coord_scale * masked_sum((goal_wh - wh).square(), here)
        prior = PRIOR_SCALE * (self.seen < self.warmup_images)
        off_xy = off_xy + prior * masked_sum((raw.xy.sigmoid() - 0.5).square(), free)
        off_wh = off_wh + prior * masked_sum(raw.wh.square(), free)
        return {'loss_xy': off_xy / 2, 'loss_wh': off_wh / 2}

    def _objectness(
        self, raw: RawLevel, xy: Tensor, wh: Tensor, slots: Slots, targets: GridTargets
    ) -> dict[str, Tensor]:
        with torch.no_grad():
            claimed = slots.claimed()
            best = best_overlap(*grid_boxes(raw, slots.grid), targets.boxes, targets.mask)
            wanted = claimed.to(raw.obj)
            if self.rescore:
                iou = darknet_iou(slot_boxes(xy, wh, slots), slots.boxes)
                wanted = put_cells(iou, slots.index, slots.mask, slots.grid.cells)
        cost = (raw.obj.sigmoid() - wanted).square() / 2
        negative = ~claimed & (best <= self.ignore_threshold)
        return {
            'loss_obj': self.object_scale * masked_sum(cost, claimed),
            'loss_noobj': self.no_object_scale * masked_sum(cost, negative),
        }


def _claims_by_current_size(wh: Tensor, slots: Slots, targets: GridTargets) -> Tensor:
    """The anchor of the object's cell whose predicted size fits best: (B, A, M) bool."""
    size = grid_sizes(wh, slots.grid).transpose(1, 2)  # (B, M, A, 2)
    overlap = shape_iou(targets.boxes[:, :, None, 2:], size).squeeze(2)
    anchors = torch.arange(size.shape[2], device=size.device)
    claims = (anchors == overlap.argmax(-1, keepdim=True)) & targets.mask[..., None]
    return claims.transpose(1, 2)
