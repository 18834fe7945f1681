"""Layers of darknet's networks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

LEAKY = dict(type='LeakyReLU', negative_slope=0.1)
MISH = dict(type='Mish')
BATCH_NORM = dict(type='BN', eps=1e-5)


def conv_module(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    *,
    norm_cfg: dict[str, Any] | None = BATCH_NORM,
    act_cfg: dict[str, Any] | None = LEAKY,
) -> ConvModule:
    """A convolution padded by ``kernel_size // 2``, its batch norm and its activation.

    Convention:
        Darknet applies batch norm before the activation, with ``eps=1e-5`` inside the root. A
        convolution with batch norm has no bias. MMCV does not register Mish, so ``type='Mish'`` is
        replaced by the class.
    """
    if act_cfg is not None and act_cfg['type'] == 'Mish':
        act_cfg = {**act_cfg, 'type': nn.Mish}
    return ConvModule(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=kernel_size // 2,
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
    )


def conv_chain(channels: int, rows: Iterable[Sequence[int]], **cfg: Any) -> list[ConvModule]:
    """Consecutive convolutions; ``rows`` are (kernel size, channels[, stride])."""
    layers = []
    for kernel_size, out_channels, *stride in rows:
        layers.append(conv_module(channels, out_channels, kernel_size, *stride, **cfg))
        channels = out_channels
    return layers


def scale_channels(channels: int, width: float) -> int:
    """``channels * width``, rounded up to a multiple of 8 unless the width is 1."""
    return channels if width == 1 else max(8, -(-int(channels * width) // 8) * 8)


class Bottleneck(BaseModule):
    """A 1x1 and a 3x3 convolution, added to the input if ``shortcut``.

    Shape:
        x: (B, channels, H, W). Returns the same shape.
    """

    def __init__(self, channels: int, hidden: int, shortcut: bool = True, **cfg: Any) -> None:
        super().__init__()
        self.conv1 = conv_module(channels, hidden, 1, **cfg)
        self.conv2 = conv_module(hidden, channels, 3, **cfg)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.conv1(x))
        return x + out if self.shortcut else out


class SpatialPyramidPooling(nn.Module):
    """Max pools of several window sizes with stride 1, concatenated with the input.

    Shape:
        x: (B, D, H, W). Returns (B, 4 * D, H, W) for three windows.

    Convention:
        The order is darknet's: largest window first, the input itself last.
    """

    def __init__(self, windows: tuple[int, ...] = (13, 9, 5)) -> None:
        super().__init__()
        self.windows = windows

    def forward(self, x: Tensor) -> Tensor:
        pools = [F.max_pool2d(x, window, stride=1, padding=window // 2) for window in self.windows]
        return torch.cat([*pools, x], dim=1)
