"""Base class of a target encoder: a pair of inverse maps between boxes and tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core.ignored import Ignored
from mmdet_losses.core.types import Detections, OutputsT, Size, TargetsT
from mmdet_losses.ops import Splats


def best_detections(boxes: Tensor, scores: Tensor, limit: int, score_thr: float) -> Detections:
    """The ``limit`` best (box, class) pairs of each image; scores up to ``score_thr`` become 0.

    Shape:
        boxes: (B, P, 4). scores: (B, P, C).
    """
    classes = scores.shape[-1]
    best, index = scores.flatten(1).topk(min(limit, scores[0].numel()))
    rows = index.div(classes, rounding_mode='floor')[..., None].expand(-1, -1, 4)
    return Detections(
        boxes.gather(1, rows), torch.where(best > score_thr, best, 0), index % classes
    )


IDEAL_LOGIT = 12.0
"""Logit of a certain class or objectness in :meth:`TargetEncoder.ideal_outputs`."""


def ideal_logits(heatmap: Splats) -> Tensor:
    """Finite logits of a target heatmap, for :meth:`TargetEncoder.ideal_outputs`."""
    return torch.logit(heatmap.dense(), eps=1e-6)


class TargetEncoder(ABC, Generic[OutputsT, TargetsT]):
    """Converts ground truth to targets, and outputs to boxes.

    The boxes of :meth:`encode` and :meth:`decode` are xyxy in pixels of the network input.
    ``encode`` reads only ground truth and never modifies it.
    """

    outputs_type: type[OutputsT]
    """NamedTuple that the detector's predictor returns."""

    @abstractmethod
    def encode(
        self,
        gt_instances: Sequence[InstanceData],
        feat_sizes: Sequence[Size],
        img_size: Size,
        ignored: Ignored = None,
    ) -> TargetsT:
        """Targets of a batch.

        Args:
            gt_instances: one per image, with ``bboxes`` (n, 4) and ``labels`` (n,).
            feat_sizes: (H, W) of the predicted feature maps, see :meth:`feat_sizes`.
            img_size: (h, w) of the network input.
            ignored: ignored annotations of each image, or None: regions without objects and
                without background, see :mod:`~mmdet_losses.core.ignored`. An encoder may lack this
                argument; then the annotations have no effect.
        """

    @abstractmethod
    def decode(self, outputs: OutputsT, img_size: Size) -> list[InstanceData]:
        """Decoded boxes of a batch: one ``InstanceData`` per image, ``bboxes, scores, labels``.

        On a GPU the number of boxes does not depend on values, which would synchronise: boxes that
        are not above the encoder's threshold have the score -1, and post-processing drops them.
        """

    def decode_tensors(self, outputs: OutputsT, img_size: Size, limit: int = 1000) -> Detections:
        """The ``limit`` best detections of :meth:`decode` as tensors, for an exported network.

        No shape depends on a value, so ``torch.export`` and ONNX can represent it.

        Raises:
            NotImplementedError: the encoder does not have this method.
        """
        raise NotImplementedError(
            f'{type(self).__name__} has no decode_tensors, so it cannot be exported; write that '
            'method, or export the network without decoding.'
        )

    @abstractmethod
    def ideal_outputs(self, targets: TargetsT) -> OutputsT:
        """Outputs of a perfect network: they decode to the encoded boxes."""

    def positive_boxes(
        self, targets: TargetsT, feat_sizes: Sequence[Size], img_size: Size
    ) -> Tensor:
        """Positive anchors or cells of the first image, for drawing: (n, 4) xyxy in pixels.

        The default is no boxes, for detectors without anchors.
        """
        return torch.zeros(0, 4)

    def feat_sizes(self, outputs: OutputsT) -> list[Size]:
        """(H, W) of the feature maps in ``outputs``, as :meth:`encode` needs them.

        By default those of the first field: a tensor (..., H, W), or a tuple of tensors.
        """
        maps = (outputs[0],) if isinstance(outputs[0], Tensor) else outputs[0]
        return [(int(each.shape[-2]), int(each.shape[-1])) for each in maps]

    def statistics(self, targets: TargetsT) -> dict[str, Tensor]:
        """Counts for the log: float32 scalars that do not change the loss.

        The default returns the fields ``num_pos`` and ``num_dropped`` of the targets, if they
        exist.
        """
        names = ('num_pos', 'num_dropped')
        return {name: getattr(targets, name) for name in names if hasattr(targets, name)}
