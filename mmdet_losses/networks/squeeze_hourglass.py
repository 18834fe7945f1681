"""CornerNet-Squeeze's hourglass: fire blocks, transposed convolutions, stride 8.

Reference:
    Law et al., *CornerNet-Lite*, BMVC 2020, section 4. The fire block is SqueezeNet's with a
    depth-wise 3x3 convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmdet_losses.networks.hourglass import StackedHourglassNet
from mmdet_losses.registry import MODELS


class FireBlock(nn.Module):
    """Squeeze to half of the output channels, then a 1x1 and a depth-wise 3x3 in parallel.

    There is no activation after the squeeze. The shortcut is the identity if the shapes are equal;
    otherwise there is none.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        half = out_channels // 2
        self.conv1 = nn.Conv2d(in_channels, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv_1x1 = nn.Conv2d(half, half, 1, stride, bias=False)
        self.conv_3x3 = nn.Conv2d(half, half, 3, stride, padding=1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.identity = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, ``in_channels``, H, W) -> (B, ``out_channels``, H / stride, W / stride)."""
        squeezed = self.bn1(self.conv1(x))
        expanded = self.bn2(torch.cat((self.conv_1x1(squeezed), self.conv_3x3(squeezed)), 1))
        return torch.relu(expanded + x if self.identity else expanded)


def _double(channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1)


@MODELS.register_module()
class SqueezeHourglassNet(StackedHourglassNet):
    """Two hourglasses of fire blocks after a stem of stride 8; arguments as in its parent.

    Shape:
        (B, 3, h, w) -> ``num_stacks`` maps (B, ``feat_channels``, h/8, w/8), first stack first.

    Args:
        options: ``init_cfg`` and ``frozen_stages`` of
            :class:`~mmdet_losses.networks.hourglass.StackedHourglassNet`.
    """

    stem_stages = 2
    block = FireBlock
    upsample = staticmethod(_double)

    def __init__(
        self,
        num_stacks: int = 2,
        stage_channels: Sequence[int] = (256, 256, 384, 384, 512),
        stage_blocks: Sequence[int] = (2, 2, 2, 2, 4),
        feat_channels: int = 256,
        with_merges: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(
            num_stacks, stage_channels, stage_blocks, feat_channels, with_merges, **options
        )
