"""A top-down path that ends in one fine map."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet_losses.registry import MODELS


@MODELS.register_module()
class TopDownNeck(BaseModule):
    """The finest level of a feature pyramid, and nothing else.

    Every level is brought to ``out_channels`` by a 1 x 1 convolution; from the deepest on, maps are
    enlarged, added to the next finer one and mixed by a 3 x 3 convolution. Heads that need one map
    at a small stride (points, corners) get it with the whole pyramid's context; an FPN would also
    compute coarser outputs, whose parameters then never saw a gradient.

    Args:
        in_channels: channels of the backbone's levels, fine to coarse.
        out_channels: channels of the map.
        num_outs: how many times the map is returned: networks with several stacks of heads
            expect one each.

    Shape:
        A tuple of maps (B, ``in_channels[i]``, H / 2^i, W / 2^i) to a tuple with
        (B, ``out_channels``, H, W). Odd sizes are fine: maps are enlarged to the finer level's.

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
