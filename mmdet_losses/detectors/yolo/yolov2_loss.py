"""Criterion of YOLOv2."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from mmdet_losses.core import DetectorLoss
from mmdet_losses.detectors.yolo.contracts import GridLevel, GridTargets, YOLOV2Outputs
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
    best_overlap,
    cell_xy,
    check_choice,
    constant,
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

    Redmon and Farhadi, *YOLO9000*, section 2.

    Convention:
        Half squared errors of the sigmoid of the centre, of the raw size and of the sigmoid of
        the objectness; softmax cross-entropy of the classes. The objectness of an anchor with an
        object is drawn to its current IoU (``rescore``), of every other one to 0 unless its IoU
        with some object exceeds ``ignore_threshold``. Of several objects that claim one anchor of
        a cell the last has it. For the first ``warmup_images`` images every other anchor is drawn
        to the centre of its cell and its own size, with weight 0.01. Sums over the batch;
        darknet divides by the batch through its learning rate, ``normalizer='images'`` does it
        here.

    Args:
        object_scale, no_object_scale, class_scale, coord_scale: weights.
        rescore: see above; with False the target is 1.
        ignore_threshold: see above.
        match_shape: an object keeps the anchor that its encoder chose; with False it takes the
            one whose current size in its cell overlaps it most (darknet's ``bias_match=0``).
        warmup_images: see above; the buffer ``seen`` counts the images of all processes while
            training, the present batch included. It is saved, so that a resumed training goes on
            counting; a file without it (converted weights) loads strictly and leaves it as it is.
        convention: 'darknet', or 'notes' for
            :func:`~mmdet_losses.detectors.yolo.summary.grid_notes_loss`.
        normalizer: 'nothing' or 'images'.

    Raises:
        ValueError: an unknown choice, or maps that do not fit the targets.
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
        convention: Literal['darknet', 'notes'] = 'darknet',
        normalizer: Literal['nothing', 'images'] = 'nothing',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_choice('convention', convention, ('darknet', 'notes'))
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
        if self.convention == 'notes':
            terms = grid_notes_loss(outputs.levels, targets, 'v2')
        else:
            each = [
                self._level(split_level(level, len(grid.anchors)), grid, targets)
                for level, grid in zip(outputs.levels, targets.levels, strict=True)
            ]
            terms = {name: sum(term[name] for term in each) for name in each[0]}
        divisor = batch if self.normalizer == 'images' else 1
        return {name: term / divisor for name, term in terms.items()}

    def _level(self, raw: RawLevel, grid: GridLevel, targets: GridTargets) -> dict[str, Tensor]:
        cells = raw.obj.shape[2]
        index = grid.index[:, None].expand_as(grid.positive)
        wh = take_cells(raw.wh, index)
        with torch.no_grad():
            center, size = grid_boxes(raw, grid.size, grid.anchors, grid.scale_xy, grid.squared)
            best = best_overlap(center, size, targets.boxes, targets.mask)
            claims = grid.positive
            if not self.match_shape:
                claims = _by_current_size(wh, grid, targets)
            mask = last_in_cell(index, claims, cells)
            claimed = put_cells(mask, index, mask, cells)
        return {
            **self._boxes(raw, wh, grid, targets.boxes, index, mask, claimed),
            **self._objectness(raw, wh, grid, targets, index, mask, claimed, best),
            'loss_cls': self._classes(raw, targets.labels, index, mask),
        }

    def _boxes(
        self,
        raw: RawLevel,
        wh: Tensor,
        grid: GridLevel,
        boxes: Tensor,
        index: Tensor,
        mask: Tensor,
        claimed: Tensor,
    ) -> dict[str, Tensor]:
        goal_xy, goal_wh = cell_targets(grid, boxes)
        shift = take_cells(raw.xy, index).sigmoid()
        here = mask[..., None]
        xy = self.coord_scale * masked_sum((goal_xy[:, None] - shift).square(), here)
        wh_cost = self.coord_scale * masked_sum((goal_wh - wh).square(), here)
        prior = PRIOR_SCALE * (self.seen < self.warmup_images)
        free = ~claimed[:, :, None]
        xy = xy + prior * masked_sum((raw.xy.sigmoid() - 0.5).square(), free)
        wh_cost = wh_cost + prior * masked_sum(raw.wh.square(), free)
        return {'loss_xy': xy / 2, 'loss_wh': wh_cost / 2}

    def _objectness(
        self,
        raw: RawLevel,
        wh: Tensor,
        grid: GridLevel,
        targets: GridTargets,
        index: Tensor,
        mask: Tensor,
        claimed: Tensor,
        best: Tensor,
    ) -> dict[str, Tensor]:
        cells = raw.obj.shape[2]
        wanted = claimed.to(raw.obj)
        if self.rescore:
            with torch.no_grad():
                at = take_cells(raw.xy, index).sigmoid() + cell_xy(index, grid.size[1])
                at = at / constant([grid.size[1], grid.size[0]], at)
                size = grid_sizes(wh, grid.anchors[:, None], grid.squared)
                reached = darknet_iou(torch.cat((at, size), -1), targets.boxes[:, None])
                wanted = put_cells(reached, index, mask, cells)
        cost = (raw.obj.sigmoid() - wanted).square() / 2
        negative = ~claimed & (best <= self.ignore_threshold)
        return {
            'loss_obj': self.object_scale * masked_sum(cost, claimed),
            'loss_noobj': self.no_object_scale * masked_sum(cost, negative),
        }

    def _classes(self, raw: RawLevel, labels: Tensor, index: Tensor, mask: Tensor) -> Tensor:
        logs = take_cells(raw.cls, index).log_softmax(-1)
        own = labels[:, None, :, None].expand(*index.shape, 1)
        return self.class_scale * masked_sum(-logs.gather(-1, own).squeeze(-1), mask)


def _by_current_size(wh: Tensor, grid: GridLevel, targets: GridTargets) -> Tensor:
    """(B, A, M) claims of the anchor whose predicted size in the object's cell fits best."""
    size = grid_sizes(wh, grid.anchors[:, None], grid.squared).transpose(1, 2)  # (B, M, A, 2)
    overlap = shape_iou(targets.boxes[:, :, None, 2:], size).squeeze(2)
    anchors = torch.arange(size.shape[2], device=size.device)
    claims = (anchors == overlap.argmax(-1, keepdim=True)) & targets.mask[..., None]
    return claims.transpose(1, 2)
