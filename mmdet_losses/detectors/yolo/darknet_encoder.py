"""Base of the encoders of YOLOv2, YOLOv3 and YOLOv4: anchors as darknet assigns them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core import (
    Ignored,
    PaddedInstances,
    Size,
    check_levels,
    is_possible,
    pad_ignored,
    pad_instances,
)
from mmdet_losses.detectors.yolo.cells import Grid
from mmdet_losses.detectors.yolo.contracts import GridLevel, GridOutputsT, GridTargets
from mmdet_losses.detectors.yolo.grid_encoder import GridTargetEncoder
from mmdet_losses.detectors.yolo.grids import Slots, hidden_anchors, object_slots, point_of
from mmdet_losses.ops import (
    check_choice,
    constant,
    counting,
    made_once,
    shape_iou,
    zero_unless,
)

Convention = Literal['darknet', 'summary']
"""Formulas of darknet, or of the loss summary, see :mod:`~mmdet_losses.detectors.yolo.summary`."""
Code = Literal['redmon', 'alexeyab']
"""The two programs called darknet: github.com/pjreddie/darknet and github.com/AlexeyAB/darknet."""
CODES: tuple[Code, ...] = ('redmon', 'alexeyab')
SMALLEST = 0.001
"""Fraction of the image; Redmon's loader drops narrower and lower boxes."""


def darknet_boxes(
    padded: PaddedInstances, img_size: Size, num_classes: int, code: Code
) -> tuple[Tensor, Tensor, Tensor]:
    """Ground truth as darknet's loader keeps it.

    Boxes are clipped to the image and their centres computed again. Dropped: boxes that are then
    narrower or lower than 0.001 of the image ('redmon', and YOLOv1 in both programs) or one pixel
    ('alexeyab'), boxes outside the image or larger than any object, boxes whose centre is exactly
    (0, 0), which marks the end of a list there, and labels outside 0 ... C-1.

    Returns:
        boxes (B, M, 4) cxcywh fractions, zero where dropped; labels (B, M); mask (B, M).
    """
    height, width = img_size
    scale = constant([width, height], padded.boxes)
    low, high = padded.boxes[..., :2], padded.boxes[..., 2:]
    center, size = (low + high) / 2 / scale, (high - low) / scale
    possible = is_possible(size, img_size, (1 / width, 1 / height))
    half = size / 2
    low, high = (center - half).clamp(0, 1), (center + half).clamp(0, 1)
    size = high - low
    boxes = torch.cat(((low + high) / 2, size), -1)
    least = constant([1 / width, 1 / height] if code == 'alexeyab' else [SMALLEST] * 2, boxes)
    usable = (possible & (size >= least)).all(-1) & (center != 0).any(-1)
    mask = usable & padded.known(num_classes)
    return zero_unless(mask[..., None], boxes), padded.labels * mask, mask


class DarknetTargetEncoder(GridTargetEncoder[GridOutputsT, GridTargets]):
    r"""Assigns an object to the anchor of the most similar shape, in the cell of its centre.

    With the cell :math:`c`, the anchor :math:`p` and raw outputs :math:`t`,

    .. math::

        b_{xy} = c + s\,\sigma(t_{xy}) - (s - 1) / 2, \qquad b_{wh} = p\,e^{t_{wh}}

    or, with ``squared``, :math:`b_{wh} = p\,(2\sigma(t_{wh}))^2`.

    Convention:
        An object gets the best anchor of all maps by the IoU of shapes, however small it is; with
        ``iou_threshold`` below 1 also every anchor above it (strict). Boxes are clipped to the
        image first, and very small ones are dropped (:func:`darknet_boxes`).

        In some cfgs an anchor belongs to no map or to two maps: YOLOv4-tiny has the masks 3, 4, 5
        and 1, 2, 3. ``all_anchors`` and ``masks`` describe that. An object whose best anchor
        belongs to no map has no target; an anchor of two maps is a target on both.

    Args:
        num_classes: C.
        anchors: for each map the (width, height) of its anchors in pixels.
        all_anchors: darknet's list of anchors, in pixels; None: those of the maps. The first of
            equal anchors is best.
        masks: numbers in ``all_anchors`` of the anchors of each map.
        scale_xy: s of each map, or one number.
        iou_threshold: see above.
        squared: sizes as Scaled-YOLOv4 encodes them.
        code: 'redmon' or 'alexeyab', the program whose loader is followed.
        class_map: class of each label of the data set; None uses the labels themselves. As in
            its program, 'alexeyab' drops labels that are no class before the map.
        max_objects: number of annotations used per image, in their order; None uses all.
        score_thr: :meth:`decode` drops scores that are not above this.
        topk: best (box, class) pairs per image that :meth:`decode` keeps. None keeps all, as
            darknet does; the results of a trained network are the same.
        ignore_iof_thr: an anchor with a larger share of its area in an ignored region is no
            negative; negative values disable this. As in MMDetection.

    Encoded:
        :class:`~mmdet_losses.detectors.yolo.contracts.GridTargets`.

    Raises:
        ValueError: invalid anchors, tables of different lengths, or masks that do not give the
            anchors of the maps.
    """

    def __init__(
        self,
        num_classes: int,
        anchors: Sequence[Sequence[tuple[float, float]]],
        scale_xy: float | Sequence[float] = 1.0,
        iou_threshold: float = 1.0,
        squared: bool = False,
        code: Code = 'redmon',
        class_map: Sequence[int] | None = None,
        max_objects: int | None = None,
        score_thr: float = 0.005,
        topk: int | None = 30_000,
        ignore_iof_thr: float = 0.5,
        all_anchors: Sequence[tuple[float, float]] | None = None,
        masks: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__(num_classes, anchors, score_thr, topk)
        check_masks(anchors, all_anchors, masks)
        self.all_anchors, self.masks = all_anchors, masks
        scales = [scale_xy] * len(anchors) if isinstance(scale_xy, int | float) else list(scale_xy)
        if len(scales) != len(anchors):
            raise ValueError(
                f'scale_xy has {len(scales)} entries but anchors has {len(anchors)}; give both one '
                'entry per map.'
            )
        self.scale_xy, self.iou_threshold, self.squared = scales, iou_threshold, squared
        check_choice('code', code, CODES)
        self.code: Code = code
        self.class_map, self.max_objects = class_map, max_objects
        self.ignore_iof_thr = ignore_iof_thr

    def grid(self, level: int, size: Size, img_size: Size, like: Tensor) -> Grid:
        """Cells and anchors of one map."""
        anchors = constant(self.anchors[level], like) / constant(img_size[::-1], like)
        return Grid(anchors, size, self.scale_xy[level], self.squared)

    def encode(
        self,
        gt_instances: Sequence[InstanceData],
        feat_sizes: Sequence[Size],
        img_size: Size,
        ignored: Ignored = None,
    ) -> GridTargets:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`; inputs are not modified."""
        padded = pad_instances(gt_instances, self.max_objects)
        known = self.num_classes
        if self.class_map is not None and self.code == 'redmon':
            known = len(self.class_map)
        boxes, labels, mask = darknet_boxes(padded, img_size, known, self.code)
        if self.class_map is not None:
            labels = constant(self.class_map, labels)[labels]
        targets = self.assign(boxes, labels, mask, feat_sizes, img_size)
        return targets._replace(
            num_dropped=padded.count - mask.sum(dtype=torch.float32),
            weights=padded.weights,
            hidden=hidden_anchors(
                pad_ignored(ignored, img_size),
                [level.grid for level in targets.levels],
                self.ignore_iof_thr,
                img_size,
            ),
        )

    def assign(
        self,
        boxes: Tensor,
        labels: Tensor,
        mask: Tensor,
        feat_sizes: Sequence[Size],
        img_size: Size,
    ) -> GridTargets:
        """Targets of ground truth that is already in darknet's form, see :func:`darknet_boxes`."""
        check_levels(len(feat_sizes), len(self.anchors), 'anchors')
        grids, anchors, order = self._table(tuple(feat_sizes), img_size, boxes.dtype, boxes.device)
        claims = self._claims(boxes, mask, anchors, order, img_size)
        sizes = [grid.size[::-1] for grid in grids]
        points = torch.stack([point_of(boxes, grid) for grid in grids], 1)  # (B, L, M, 2)
        cells = (points * constant(sizes, boxes)[:, None]).long()
        last = constant([[x - 1, y - 1] for x, y in sizes], cells)[:, None]
        cells = cells.clamp(constant(0, cells), last)
        index = cells[..., 1] * constant([x for x, _ in sizes], cells)[:, None] + cells[..., 0]
        by_map = claims.split([len(level) for level in self.anchors], 1)
        return GridTargets(
            boxes=boxes,
            labels=labels,
            mask=mask,
            levels=tuple(map(GridLevel, by_map, index.unbind(1), grids)),
            several=self.iou_threshold < 1,
            num_pos=claims.sum(dtype=torch.float32),
            num_dropped=constant(0, boxes),
        )

    @made_once(16)
    def _table(
        self, feat_sizes: Sequence[Size], img_size: Size, dtype: torch.dtype, device: torch.device
    ) -> tuple[list[Grid], Tensor, Tensor]:
        """Grids of the maps, anchors of all maps, and the anchors' order by ascending area."""
        like = torch.empty(0, dtype=dtype, device=device)
        grids = self.grids(feat_sizes, img_size, like)
        anchors = torch.cat([grid.anchors for grid in grids])
        return grids, anchors, anchors.prod(-1).argsort(stable=True)

    def _claims(
        self, boxes: Tensor, mask: Tensor, anchors: Tensor, order: Tensor, img_size: Size
    ) -> Tensor:
        """Anchors of all maps that stand for an object: (B, A, M) bool.

        Without ``all_anchors`` the smallest of several anchors of equal IoU is best.
        """
        overlap = shape_iou(boxes[..., 2:], anchors)  # (B, M, A)
        if self.all_anchors is None or self.masks is None:
            best = order[overlap[..., order].argmax(-1)]
            numbers = counting(len(anchors), boxes.device)
        else:
            listed = constant(self.all_anchors, boxes) / constant(img_size[::-1], boxes)
            best = shape_iou(boxes[..., 2:], listed).argmax(-1)
            numbers = constant([each for level in self.masks for each in level], best)
        claims = numbers == best[..., None]
        if self.iou_threshold < 1:
            claims = claims | (overlap > self.iou_threshold)
        return (claims & mask[..., None]).transpose(1, 2)

    def slots(self, targets: GridTargets) -> list[Slots]:
        """The (object, anchor) pairs of each map."""
        return [object_slots(level, targets) for level in targets.levels]


def check_masks(
    anchors: Sequence[Sequence[tuple[float, float]]],
    all_anchors: Sequence[tuple[float, float]] | None,
    masks: Sequence[Sequence[int]] | None,
) -> None:
    """Raise ``ValueError`` unless the masks select the anchors of the maps from the list."""
    if all_anchors is None and masks is None:
        return
    if all_anchors is None or masks is None:
        raise ValueError('all_anchors and masks belong together; give both or none of them.')
    known = range(len(all_anchors))
    selected = [[tuple(all_anchors[i]) for i in mask if i in known] for mask in masks]
    if selected != [[tuple(anchor) for anchor in level] for level in anchors]:
        raise ValueError(
            f'masks={masks} select {selected} from all_anchors, but the maps have {anchors}; give '
            'the maps the anchors of their masks.'
        )
