"""Base of the encoders of YOLOv2, v3, v4 and Scaled-YOLOv4."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core import (
    Detections,
    Size,
    TargetEncoder,
    best_detections,
    check_channels,
    check_levels,
)
from mmdet_losses.core.types import TargetsT
from mmdet_losses.detectors.yolo.cells import Grid
from mmdet_losses.detectors.yolo.contracts import GridOutputsT
from mmdet_losses.detectors.yolo.grids import Slots, decode_map, ideal_map, positive_anchors
from mmdet_losses.detectors.yolo.maps import RawLevel, best_pairs, check_anchors, split_level


class GridTargetEncoder(TargetEncoder[GridOutputsT, TargetsT]):
    """Encoder of a detector with anchors on one or more maps.

    Subclasses write the targets. This class decodes, and writes ideal outputs and positive boxes
    from the slots of the targets.

    Args:
        num_classes: C.
        anchors: for each map the (width, height) of its anchors in pixels.
        score_thr: :meth:`decode` drops scores that are not above this.
        topk: best (box, class) pairs per image that :meth:`decode` keeps; None keeps all.

    Raises:
        ValueError: anchors that are not positive pairs of numbers.
    """

    def __init__(
        self,
        num_classes: int,
        anchors: Sequence[Sequence[tuple[float, float]]],
        score_thr: float,
        topk: int | None,
    ) -> None:
        check_anchors(anchors)
        self.num_classes, self.anchors = num_classes, anchors
        self.score_thr, self.topk = score_thr, topk

    @abstractmethod
    def grid(self, level: int, size: Size, img_size: Size, like: Tensor) -> Grid:
        """Cells and anchors of one map of (H, W) = ``size``."""

    def grids(self, sizes: Sequence[Size], img_size: Size, like: Tensor) -> list[Grid]:
        """Cells and anchors of all maps, with the constants of their predictions."""
        grids = [self.grid(i, size, img_size, like) for i, size in enumerate(sizes)]
        return [grid._replace(table=grid.constants()) for grid in grids]

    @abstractmethod
    def slots(self, targets: TargetsT) -> list[Slots]:
        """The (object, anchor) pairs of each map."""

    def split(self, outputs: GridOutputsT) -> list[RawLevel]:
        """The parts of every map."""
        check_levels(len(outputs.levels), len(self.anchors), 'anchors')
        pairs = zip(outputs.levels, self.anchors, strict=True)
        return [split_level(level, len(anchors)) for level, anchors in pairs]

    def objectness(self, raw: RawLevel) -> Tensor:
        """Objectness (B, A, N) of a map, a factor of all its class scores."""
        return raw.obj.sigmoid()

    def class_scores(self, obj: Tensor, cls: Tensor) -> Tensor:
        """Class scores (..., C) from the logits ``obj`` (...) and ``cls`` (..., C)."""
        return cls.sigmoid()

    def scores(self, raw: RawLevel) -> tuple[Tensor, Tensor]:
        """Objectness (B, A, N) and class scores (B, A, C, N) of a map."""
        classes = self.class_scores(raw.obj, raw.cls.transpose(2, 3))
        return self.objectness(raw), classes.transpose(2, 3)

    def feat_sizes(self, outputs: GridOutputsT) -> list[Size]:
        """(H, W) of the maps.

        Raises:
            ValueError: the channels do not fit anchors and classes.
        """
        counts = [len(level) for level in self.anchors]
        check_channels(outputs.levels, counts, 5 + self.num_classes)
        return super().feat_sizes(outputs)

    def decode_all(self, outputs: GridOutputsT, img_size: Size) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (B, P, 4) xyxy pixels, objectness (B, P), class scores (B, P, C).

        The order of P is level, anchor, row, column.
        """
        sizes = self.feat_sizes(outputs)
        boxes, objects, classes = [], [], []
        for i, raw in enumerate(self.split(outputs)):
            boxes.append(decode_map(raw, self.grid(i, sizes[i], img_size, raw.xy), img_size))
            obj, cls = self.scores(raw)
            objects.append(obj.flatten(1))
            classes.append(cls.transpose(2, 3).flatten(1, 2))
        return torch.cat(boxes, 1), torch.cat(objects, 1), torch.cat(classes, 1)

    def decode(self, outputs: GridOutputsT, img_size: Size) -> list[InstanceData]:
        """The best pairs by objectness times class score; boxes are not clipped.

        Class scores are at most 1, so a CPU computes them only where the objectness is above
        ``score_thr``.
        """
        if outputs.levels[0].device.type != 'cpu':
            every, objectness, classes = self.decode_all(outputs, img_size)
            return [
                best_pairs(*pair, self.score_thr, self.topk)
                for pair in zip(every, objectness[..., None] * classes, strict=True)
            ]
        sizes = self.feat_sizes(outputs)
        parts: list[list[tuple[Tensor, Tensor]]] = [[] for _ in outputs.levels[0]]
        for i, raw in enumerate(self.split(outputs)):
            grid = self.grid(i, sizes[i], img_size, raw.xy)
            boxes = decode_map(raw, grid, img_size)
            objects = self.objectness(raw)
            for image, part in enumerate(parts):
                own = (objects[image] > self.score_thr).nonzero(as_tuple=True)
                anchor, cell = own
                scores = self.class_scores(raw.obj[image][own], raw.cls[image, anchor, :, cell])
                scores = objects[image][own][:, None] * scores
                part.append((boxes[image, anchor * grid.cells + cell], scores))
        return [
            best_pairs(*map(torch.cat, zip(*part, strict=True)), self.score_thr, self.topk)
            for part in parts
        ]

    def decode_tensors(
        self, outputs: GridOutputsT, img_size: Size, limit: int = 1000
    ) -> Detections:
        """See :class:`~mmdet_losses.core.encoder.TargetEncoder`."""
        boxes, obj, classes = self.decode_all(outputs, img_size)
        return best_detections(boxes, obj[..., None] * classes, limit, self.score_thr)

    def ideal_outputs(self, targets: TargetsT) -> GridOutputsT:
        """Certain logits for the last object of every claimed anchor, and values of its box."""
        maps = (ideal_map(slots, self.num_classes) for slots in self.slots(targets))
        return self.outputs_type(tuple(maps))

    def positive_boxes(
        self, targets: TargetsT, feat_sizes: Sequence[Size], img_size: Size
    ) -> Tensor:
        """The claimed anchors of the first image: (n, 4) xyxy pixels."""
        return torch.cat([positive_anchors(slots, img_size) for slots in self.slots(targets)])
