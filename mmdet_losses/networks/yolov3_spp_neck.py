"""YOLOv3's neck with spatial pyramid pooling before the coarsest output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet.models.necks import YOLOV3Neck
from mmengine.model import BaseModule
from torch import Tensor

from mmdet_losses.networks.darknet_layers import (
    BATCH_NORM,
    LEAKY,
    SpatialPyramidPooling,
    conv_module,
)
from mmdet_losses.registry import MODELS


class _PooledDetectionBlock(BaseModule):
    """MMDetection's block of five convolutions with the pyramid after the third."""

    def __init__(self, in_channels: int, out_channels: int, **cfg: Any) -> None:
        super().__init__()
        double = 2 * out_channels
        self.conv1 = conv_module(in_channels, out_channels, 1, **cfg)
        self.conv2 = conv_module(out_channels, double, 3, **cfg)
        self.conv3 = conv_module(double, out_channels, 1, **cfg)
        self.pyramid = SpatialPyramidPooling()
        self.reduce = conv_module(4 * out_channels, out_channels, 1, **cfg)
        self.conv4 = conv_module(out_channels, double, 3, **cfg)
        self.conv5 = conv_module(double, out_channels, 1, **cfg)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv3(self.conv2(self.conv1(x)))
        return self.conv5(self.conv4(self.reduce(self.pyramid(x))))


@MODELS.register_module()
class SPPYOLOV3Neck(YOLOV3Neck):
    """MMDetection's ``YOLOV3Neck`` with a pooling pyramid in the coarsest block.

    Shape:
        As ``YOLOV3Neck``: input maps fine to coarse, output maps coarse to fine.

    Args:
        in_channels, out_channels: coarse to fine, as in ``YOLOV3Neck``.
    """

    def __init__(
        self,
        num_scales: int = 3,
        in_channels: Sequence[int] = (1024, 512, 256),
        out_channels: Sequence[int] = (512, 256, 128),
        norm_cfg: dict[str, Any] = BATCH_NORM,
        act_cfg: dict[str, Any] = LEAKY,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            num_scales,
            list(in_channels),
            list(out_channels),
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
            init_cfg=init_cfg,
        )
        self.detect1 = _PooledDetectionBlock(
            in_channels[0], out_channels[0], norm_cfg=norm_cfg, act_cfg=act_cfg
        )
