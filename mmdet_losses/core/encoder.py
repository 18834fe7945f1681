"""The contract of a target encoder: a pair of inverse maps between boxes and tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core.types import OutputsT, Size, TargetsT

IDEAL_LOGIT = 12.0
"""Logit of a certain class or objectness in :meth:`TargetEncoder.ideal_outputs`."""


class TargetEncoder(ABC, Generic[OutputsT, TargetsT]):
    """Writes ground truth as targets, and reads outputs back as boxes.

    Boxes enter :meth:`encode` and leave :meth:`decode` in one frame: xyxy pixels of the network
    input. ``encode`` looks at ground truth only and never changes it.
    """

    outputs_type: type[OutputsT]
    """The NamedTuple that the detector's predictor returns."""

    @abstractmethod
    def encode(
        self, gt_instances: Sequence[InstanceData], feat_sizes: Sequence[Size], img_size: Size
    ) -> TargetsT:
        """Ground truth of a batch to targets.

        Args:
            gt_instances: one an image, with ``bboxes`` (n, 4) and ``labels`` (n,).
            feat_sizes: (H, W) of the maps that the predictor returns, see :meth:`feat_sizes`.
            img_size: (h, w) of the network input.
        """

    @abstractmethod
    def decode(self, outputs: OutputsT, img_size: Size) -> list[InstanceData]:
        """Outputs of a batch to one ``InstanceData`` an image: ``bboxes, scores, labels``."""

    @abstractmethod
    def ideal_outputs(self, targets: TargetsT) -> OutputsT:
        """What a perfect network would have said: outputs that decode to the encoded boxes."""

    def positive_boxes(
        self, targets: TargetsT, feat_sizes: Sequence[Size], img_size: Size
    ) -> Tensor:
        """Anchors or cells that stand for objects in the first image: (n, 4) xyxy pixels.

        For drawing. A detector without anchors returns no boxes, which is the default.
        """
        return torch.zeros(0, 4)

    def feat_sizes(self, outputs: OutputsT) -> list[Size]:
        """(H, W) of the maps in ``outputs`` that :meth:`encode` must match.

        By default the first field decides: a map (..., H, W), or a tuple of them.
        """
        maps = (outputs[0],) if isinstance(outputs[0], Tensor) else outputs[0]
        return [(int(each.shape[-2]), int(each.shape[-1])) for each in maps]

    def statistics(self, targets: TargetsT) -> dict[str, Tensor]:
        """Counts worth logging beside the losses (float32 scalars, never summed into them).

        By default the fields ``num_pos`` and ``num_dropped`` of the targets, where they exist.
        """
        names = ('num_pos', 'num_dropped')
        return {name: getattr(targets, name) for name in names if hasattr(targets, name)}
