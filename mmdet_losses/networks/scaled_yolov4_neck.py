"""Scaled-YOLOv4's neck: the paths of YOLOv4 with cross stage partial (CSP) blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet_losses.networks.darknet_layers import (
    BATCH_NORM,
    MISH,
    Bottleneck,
    SpatialPyramidPooling,
    conv_chain,
    conv_module,
)
from mmdet_losses.networks.yolov4_neck import YOLOV4Neck
from mmdet_losses.registry import MODELS


class _Renorm(nn.Module):
    """A second batch norm and Mish over the deep branch (see ``ScaledYOLOV4Neck``)."""

    def __init__(self, channels: int, norm_cfg: dict[str, Any]) -> None:
        super().__init__()
        self.bn = build_norm_layer(norm_cfg, channels)[1]
        self.act = nn.Mish()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(x))


class _CSPBlock(BaseModule):
    """A 1x1 convolution, two branches (bottlenecks without shortcut; 1x1), and a 1x1 over both."""

    def __init__(self, in_channels: int, out: int, blocks: int, renorm: bool, **cfg: Any) -> None:
        super().__init__()
        self.main = conv_module(in_channels, out, 1, **cfg)
        self.cross = conv_module(out, out, 1, **cfg)
        self.blocks = nn.Sequential(
            *(Bottleneck(out, out, shortcut=False, **cfg) for _ in range(blocks))
        )
        self.renorm = _Renorm(out, cfg['norm_cfg']) if renorm else nn.Identity()
        self.fuse = conv_module(2 * out, out, 1, **cfg)

    def forward(self, x: Tensor) -> Tensor:
        x = self.main(x)
        return self.fuse(torch.cat([self.renorm(self.blocks(x)), self.cross(x)], dim=1))


class _CSPPyramid(BaseModule):
    """A CSP block with spatial pyramid pooling on one branch."""

    def __init__(self, in_channels: int, out: int, pairs: int, renorm: bool, **cfg: Any) -> None:
        super().__init__()
        self.cross = conv_module(in_channels, out, 1, **cfg)
        self.before = nn.Sequential(*conv_chain(in_channels, ((1, out), (3, out), (1, out)), **cfg))
        self.pyramid = SpatialPyramidPooling()
        self.after = nn.Sequential(*conv_chain(4 * out, ((1, out), (3, out)) * pairs, **cfg))
        self.renorm = _Renorm(out, cfg['norm_cfg']) if renorm else nn.Identity()
        self.fuse = conv_module(2 * out, out, 1, **cfg)

    def forward(self, x: Tensor) -> Tensor:
        deep = self.renorm(self.after(self.pyramid(self.before(x))))
        return self.fuse(torch.cat([deep, self.cross(x)], dim=1))


@MODELS.register_module()
class ScaledYOLOV4Neck(YOLOV4Neck):
    """YOLOv4's paths with a CSP pyramid and CSP blocks.

    Shape:
        As ``YOLOV4Neck``, for any number of maps (P6 has four, P7 five).

    Convention:
        Darknet applies batch norm to each branch before the concatenation (``renorm=False``). The
        PyTorch code applies it to the concatenation. There the deep branch has a second batch norm
        and Mish (``renorm=True``); for the cross branch both are equal.

    Args:
        in_channels, out_channels: fine to coarse.
        blocks: number of bottlenecks per block: 2 in yolov4-csp; 3 in yolov4x-mish, P5, P6 and P7.
        pyramid_pairs: number of pairs of 1x1 and 3x3 convolutions after the pools: 2 in
            yolov4x-mish, 1 in the others.
        renorm: whether the deep branches have a second batch norm.

    Reference:
        Wang et al., *Scaled-YOLOv4*, 2021, section 4.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (256, 512, 1024),
        out_channels: Sequence[int] = (128, 256, 512),
        blocks: int = 2,
        pyramid_pairs: int = 1,
        renorm: bool = False,
        norm_cfg: dict[str, Any] = BATCH_NORM,
        act_cfg: dict[str, Any] = MISH,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        self.blocks, self.pyramid_pairs, self.renorm = blocks, pyramid_pairs, renorm
        super().__init__(in_channels, out_channels, norm_cfg, act_cfg, init_cfg)

    def _pyramid(self, in_channels: int, out_channels: int) -> nn.Module:
        return _CSPPyramid(in_channels, out_channels, self.pyramid_pairs, self.renorm, **self.cfg)

    def _fuse(self, n: int) -> nn.Module:
        return _CSPBlock(2 * n, n, self.blocks, self.renorm, **self.cfg)
