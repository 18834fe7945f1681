"""Target encoder of YOLOv2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmdet_losses.core import IDEAL_LOGIT
from mmdet_losses.detectors.yolo.class_tree import ClassTree
from mmdet_losses.detectors.yolo.contracts import GridTargets, YOLOV2Outputs
from mmdet_losses.detectors.yolo.darknet_encoder import Convention, DarknetTargetEncoder
from mmdet_losses.detectors.yolo.maps import RawLevel, join_level, one_hot
from mmdet_losses.ops import check_choice, constant
from mmdet_losses.registry import TASK_UTILS

VOC_ANCHORS = (
    ((42.31, 55.41), (102.18, 128.3), (161.79, 259.17), (303.08, 154.9), (359.56, 320.23)),
)
IOU_THRESHOLD = {'darknet': 1.0, 'summary': 0.3}


@TASK_UTILS.register_module()
class YOLOV2TargetEncoder(DarknetTargetEncoder[YOLOV2Outputs]):
    """:class:`DarknetTargetEncoder` with one map, the five anchors of VOC and softmax classes.

    With ``convention='summary'`` an object gets every anchor whose shape IoU is above 0.3.

    Args:
        softmax: class scores are a softmax; with False they are sigmoids.
        background: the softmax includes the objectness as a background class, and the score of a
            pair is its class score alone.
        tree: parents of the classes, see :class:`~mmdet_losses.detectors.yolo.class_tree.ClassTree`
            (YOLO9000). With ``class_map`` the scores are the probabilities of the mapped classes,
            and results have the labels of the data set. Without it a box has one class, the deepest
            one whose probability is above ``tree_threshold``, with the objectness as its score.
        tree_threshold: see above.

    Raises:
        ValueError: a ``tree`` of another number of classes, or what the base class raises.

    Reference:
        Redmon and Farhadi, *YOLO9000*, 2017, section 2.
    """

    outputs_type = YOLOV2Outputs

    def __init__(
        self,
        num_classes: int,
        anchors: Sequence[Sequence[tuple[float, float]]] = VOC_ANCHORS,
        iou_threshold: float | None = None,
        convention: Convention = 'darknet',
        softmax: bool = True,
        background: bool = False,
        tree: Sequence[int] | None = None,
        tree_threshold: float = 0.5,
        **kwargs: Any,
    ) -> None:
        check_choice('convention', convention, IOU_THRESHOLD)
        if iou_threshold is None:
            iou_threshold = IOU_THRESHOLD[convention]
        super().__init__(num_classes, anchors, iou_threshold=iou_threshold, **kwargs)
        self.softmax, self.background = softmax, background
        self.tree = None if tree is None else ClassTree(tree)
        self.tree_threshold = tree_threshold
        if self.tree is not None and len(self.tree) != num_classes:
            raise ValueError(
                f'tree has {len(self.tree)} classes, but num_classes is {num_classes}; give both '
                'the same number.'
            )

    def objectness(self, raw: RawLevel) -> Tensor:
        """Objectness (B, A, N) of a map; 1 if the background is a class."""
        return torch.ones_like(raw.obj) if self.background else super().objectness(raw)

    def class_scores(self, obj: Tensor, cls: Tensor) -> Tensor:
        """Class scores (..., C) from the logits ``obj`` (...) and ``cls`` (..., C)."""
        if self.tree is not None:
            logs = self.tree.log_probabilities(cls)
            if self.class_map is not None:
                return logs[..., constant(self.class_map, logs).long()].exp()
            return one_hot(self.tree.deepest(logs, self.tree_threshold), logs)
        if self.background:
            return torch.cat((obj[..., None], cls), -1).softmax(-1)[..., 1:]
        return cls.softmax(-1) if self.softmax else cls.sigmoid()

    def ideal_outputs(self, targets: GridTargets) -> YOLOV2Outputs:
        """Certain logits for the last object of every claimed anchor, and values of its box."""
        outputs = super().ideal_outputs(targets)
        if not self.background and self.tree is None:
            return outputs
        sizes = [level.grid.size for level in targets.levels]
        return YOLOV2Outputs(tuple(map(join_level, map(self._ideal, self.split(outputs)), sizes)))

    def _ideal(self, raw: RawLevel) -> RawLevel:
        """Objectness as background, or certain classes with their ancestors."""
        if self.tree is None:
            return raw._replace(obj=-raw.obj)
        own = self.tree.with_ancestors(raw.cls.transpose(2, 3) > 0).transpose(2, 3)
        return raw._replace(cls=(own * 2.0 - 1) * IDEAL_LOGIT)
