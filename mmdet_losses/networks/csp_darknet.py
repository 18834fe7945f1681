"""CSP Darknets: the backbones of YOLOv4 and Scaled-YOLOv4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet_losses.networks.darknet_layers import (
    BATCH_NORM,
    MISH,
    Bottleneck,
    conv_module,
    scale_channels,
)
from mmdet_losses.networks.freezing import FreezableBackbone
from mmdet_losses.ops import check_choice
from mmdet_losses.registry import MODELS


class _Arch(NamedTuple):
    blocks: tuple[int, ...]  # number of residual blocks per stage
    channels: tuple[int, ...]  # of the stem and of every stage
    first: str  # kind of stage 1; in the others each branch has half of the channels


_ARCHS = {
    'v4': _Arch((1, 2, 8, 8, 4), (32, 64, 128, 256, 512, 1024), 'wide'),
    'csp': _Arch((1, 2, 8, 8, 4), (32, 64, 128, 256, 512, 1024), 'plain'),
    'x': _Arch((1, 3, 10, 10, 5), (32, 80, 160, 320, 640, 1280), 'plain'),
    'p5': _Arch((1, 3, 15, 15, 7), (32, 64, 128, 256, 512, 1024), 'half'),
    'p6': _Arch((1, 3, 15, 15, 7, 7), (32, 64, 128, 256, 512, 1024, 1024), 'half'),
    'p7': _Arch((1, 3, 15, 15, 7, 7, 7), (40, 80, 160, 320, 640, 1280, 1280, 1280), 'half'),
}


class _PlainStage(BaseModule):
    """A convolution of stride 2 and residual blocks."""

    def __init__(self, in_channels: int, out_channels: int, blocks: int, **cfg: Any) -> None:
        super().__init__()
        self.down = conv_module(in_channels, out_channels, 3, 2, **cfg)
        hidden = out_channels // 2
        self.blocks = nn.Sequential(
            *(Bottleneck(out_channels, hidden, **cfg) for _ in range(blocks))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.down(x))


class CSPStage(BaseModule):
    """A convolution of stride 2, then residual blocks on one branch and a 1x1 on the other.

    Shape:
        x: (B, in_channels, H, W). Returns (B, out_channels, H / 2, W / 2).

    Convention:
        The concatenation is [residual branch, cross branch]. With ``wide`` both branches have all
        channels, as in the first stage of YOLOv4; otherwise each branch has half of them.

    Reference:
        Wang et al., *CSPNet*, 2020.
    """

    def __init__(
        self, in_channels: int, out_channels: int, blocks: int, wide: bool = False, **cfg: Any
    ) -> None:
        super().__init__()
        branch = out_channels if wide else out_channels // 2
        hidden = branch // 2 if wide else branch
        self.down = conv_module(in_channels, out_channels, 3, 2, **cfg)
        self.cross = conv_module(out_channels, branch, 1, **cfg)
        self.main = conv_module(out_channels, branch, 1, **cfg)
        self.blocks = nn.Sequential(*(Bottleneck(branch, hidden, **cfg) for _ in range(blocks)))
        self.transition = conv_module(branch, branch, 1, **cfg)
        self.fuse = conv_module(2 * branch, out_channels, 1, **cfg)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        deep = self.transition(self.blocks(self.main(x)))
        return self.fuse(torch.cat([deep, self.cross(x)], dim=1))


@MODELS.register_module()
class DarknetCSP(FreezableBackbone):
    """CSPDarknet-53 and the backbones of Scaled-YOLOv4.

    Shape:
        x: (B, 3, h, w). Returns one map per entry of ``out_indices``; index 0 is the stem
        (stride 1), index i a stage of stride ``2 ** i``. The default gives strides 8, 16 and 32.

    Convention:
        MMDetection's ``CSPDarknet`` (YOLOX) has other blocks. The default batch norm is darknet's,
        ``eps=1e-5``; the PyTorch code of Scaled-YOLOv4 uses
        ``norm_cfg=dict(type='BN', eps=1e-3, momentum=0.03)``. Parameters are registered in the
        order of darknet's files.

    Args:
        arch: ``'v4'``, ``'csp'``, ``'x'`` (yolov4x-mish), ``'p5'``, ``'p6'`` or ``'p7'``.
        depth: factor on the number of residual blocks per stage (rounded as
            ``round`` does, at least one).
        width: factor on the number of channels (rounded up to a multiple of 8).
        out_indices: the maps to return.
        frozen_stages: the layers of map 0 to this map are not trained
            (:class:`~mmdet_losses.networks.freezing.FreezableBackbone`); -1 trains all.

    Raises:
        ValueError: an unknown ``arch`` or a stage that does not exist.

    Reference:
        Bochkovskiy et al., *YOLOv4*, 2020; Wang et al., *Scaled-YOLOv4*, 2021, section 4.
    """

    def __init__(
        self,
        arch: str = 'v4',
        depth: float = 1.0,
        width: float = 1.0,
        out_indices: Sequence[int] = (3, 4, 5),
        norm_cfg: dict[str, Any] | None = BATCH_NORM,
        act_cfg: dict[str, Any] | None = MISH,
        init_cfg: dict[str, Any] | None = None,
        frozen_stages: int = -1,
    ) -> None:
        super().__init__(init_cfg)
        check_choice('arch', arch, _ARCHS)
        blocks, channels, first = _ARCHS[arch]
        if not set(out_indices) <= set(range(len(channels))):
            raise ValueError(
                f'out_indices is {tuple(out_indices)}; {arch!r} has maps 0 (stem) to '
                f'{len(channels) - 1}.'
            )
        cfg: dict[str, Any] = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        channels = tuple(scale_channels(count, width) for count in channels)
        self.out_indices = tuple(out_indices)
        self.stem = conv_module(3, channels[0], 3, **cfg)
        self.stages = nn.ModuleList()
        for index, count in enumerate(blocks):
            sizes = channels[index], channels[index + 1], max(1, round(count * depth))
            if index == 0 and first == 'plain':
                self.stages.append(_PlainStage(*sizes, **cfg))
            else:
                wide = index == 0 and first == 'wide'
                self.stages.append(CSPStage(*sizes, wide=wide, **cfg))
        self.freeze(frozen_stages + 1)

    def stages_in_order(self) -> list[nn.Module]:
        """Stem and stages."""
        return [self.stem, *self.stages]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = [self.stem(x)]
        for stage in self.stages[: max(self.out_indices)]:
            maps.append(stage(maps[-1]))
        return tuple(maps[index] for index in self.out_indices)
