"""A top-down path with one fine output map."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet_losses.registry import MODELS


@MODELS.register_module()
class TopDownNeck(BaseModule):
    """The finest level of a feature pyramid.

    A 1x1 convolution gives every level ``out_channels``. Starting with the deepest, each map is
    enlarged, added to the next finer one, and passed through a 3x3 convolution. Heads that need
    one map at a small stride (points, corners) get the context of the whole pyramid. An FPN also
    computes coarser outputs, whose parameters would get no gradient.

    Args:
        in_channels: channels of the backbone's levels, fine to coarse.
        out_channels: channels of the map.
        num_outs: number of times the map is returned, for predictors with several stacks.

    Shape:
        A tuple of maps (B, ``in_channels[i]``, H / 2^i, W / 2^i) to a tuple with
        (B, ``out_channels``, H, W). Odd sizes are allowed: maps are enlarged to the finer size.

    Reference:
        Lin et al., *Feature Pyramid Networks for Object Detection*.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int = 1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.num_outs = num_outs
        self.lateral = nn.ModuleList(nn.Conv2d(each, out_channels, 1) for each in in_channels)
        self.mix = nn.ModuleList(
            ConvModule(out_channels, out_channels, 3, padding=1, norm_cfg={'type': 'BN'})
            for _ in in_channels[1:]
        )

    def forward(self, feats: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """See Shape."""
        deep = self.lateral[-1](feats[-1])
        for level in range(len(feats) - 2, -1, -1):
            fine = self.lateral[level](feats[level])
            deep = F.interpolate(deep, size=fine.shape[-2:], mode='nearest') + fine
            deep = self.mix[level](deep)
        return (deep,) * self.num_outs
