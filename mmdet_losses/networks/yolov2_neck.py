"""YOLOv2's neck with the passthrough: fine features are stacked into the coarse map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet_losses.networks.darknet_layers import BATCH_NORM, LEAKY, conv_chain, conv_module
from mmdet_losses.registry import MODELS


def darknet_reorg(x: Tensor) -> Tensor:
    """Darknet's `[reorg]` with stride 2, which is not space-to-depth.

    Shape:
        x: (B, D, H, W), D divisible by 4, H and W even. Returns (B, 4 * D, H / 2, W / 2).

    Convention:
        The layer views its input as D/4 channels of (2H, 2W), takes every second pixel, and views
        the result as 4D channels of (H/2, W/2). Neighbouring pixels do not stay neighbours, but
        the published weights were trained with this order.

    Raises:
        ValueError: channels or size do not divide.
    """
    batch, channels, height, width = x.shape
    if channels % 4 or height % 2 or width % 2:
        raise ValueError(
            f'reorg needs channels divisible by 4 and even sides, and the map is {tuple(x.shape)}; '
            'use images whose sides are multiples of 32.'
        )
    folded = x.reshape(batch, channels // 4, height, 2, width, 2)
    return folded.permute(0, 3, 5, 1, 2, 4).reshape(batch, channels * 4, height // 2, width // 2)


@MODELS.register_module()
class YOLOV2Neck(BaseModule):
    """Two 3x3 convolutions, the passthrough, and a 3x3 convolution over their concatenation.

    Shape:
        feats: (B, in_channels[0], 2H, 2W) and (B, in_channels[1], H, W).
        Returns ((B, out_channels, H, W),).

    Convention:
        The concatenation is [passthrough, coarse]. Parameters are registered in the order of
        darknet's files.

    Reference:
        Redmon and Farhadi, *YOLO9000*, 2017, "Fine-Grained Features".
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (512, 1024),
        out_channels: int = 1024,
        passthrough_channels: int = 64,
        norm_cfg: dict[str, Any] | None = BATCH_NORM,
        act_cfg: dict[str, Any] | None = LEAKY,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        cfg: dict[str, Any] = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        fine, coarse = in_channels
        self.deep = nn.Sequential(*conv_chain(coarse, ((3, out_channels),) * 2, **cfg))
        self.passthrough = conv_module(fine, passthrough_channels, 1, **cfg)
        self.fuse = conv_module(4 * passthrough_channels + out_channels, out_channels, 3, **cfg)

    def forward(self, feats: tuple[Tensor, ...]) -> tuple[Tensor]:
        fine, coarse = feats
        passed = darknet_reorg(self.passthrough(fine))
        return (self.fuse(torch.cat([passed, self.deep(coarse)], dim=1)),)
