"""YOLOv4's neck: a pooling pyramid, a top-down and a bottom-up path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet_losses.networks.darknet_layers import (
    BATCH_NORM,
    LEAKY,
    SpatialPyramidPooling,
    conv_chain,
    conv_module,
)
from mmdet_losses.registry import MODELS


class _TopDown(BaseModule):
    """Reduces and enlarges the coarse map, concatenates it with the fine one, and fuses both."""

    def __init__(self, coarse: int, fine: int, out: int, fuse: nn.Module, **cfg: Any) -> None:
        super().__init__()
        self.reduce = conv_module(coarse, out, 1, **cfg)
        self.lateral = conv_module(fine, out, 1, **cfg)
        self.fuse = fuse

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        enlarged = F.interpolate(self.reduce(coarse), scale_factor=2, mode='nearest')
        return self.fuse(torch.cat([self.lateral(fine), enlarged], dim=1))


class _BottomUp(BaseModule):
    """Shrinks the fine map, concatenates it with the coarse one, and fuses both."""

    def __init__(self, fine: int, out: int, fuse: nn.Module, **cfg: Any) -> None:
        super().__init__()
        self.down = conv_module(fine, out, 3, 2, **cfg)
        self.fuse = fuse

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        return self.fuse(torch.cat([self.down(fine), coarse], dim=1))


@MODELS.register_module()
class YOLOV4Neck(BaseModule):
    """Spatial pyramid pooling and a path aggregation network of plain convolutions.

    Shape:
        feats: (B, in_channels[i], H / 2**i, W / 2**i), fine to coarse.
        Returns (B, out_channels[i], H / 2**i, W / 2**i), fine to coarse.

    Convention:
        Concatenations are [lateral, enlarged] on the top-down path and [shrunk, previous] on the
        bottom-up path. The activation is leaky and the backbone's is Mish, as in the official
        network. Parameters are registered in the order of darknet's files.

    Args:
        in_channels: of the backbone's maps, fine to coarse.
        out_channels: of the returned maps; half of ``in_channels`` in the paper.

    Reference:
        Bochkovskiy et al., *YOLOv4*, 2020, section 3.4; Liu et al., *Path Aggregation Network*,
        2018.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (256, 512, 1024),
        out_channels: Sequence[int] = (128, 256, 512),
        norm_cfg: dict[str, Any] | None = BATCH_NORM,
        act_cfg: dict[str, Any] | None = LEAKY,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if len(in_channels) != len(out_channels):
            raise ValueError(
                f'in_channels has {len(in_channels)} entries and out_channels has '
                f'{len(out_channels)}; give one entry per map in both.'
            )
        self.cfg: dict[str, Any] = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        outs = list(out_channels)
        self.pyramid = self._pyramid(in_channels[-1], outs[-1])
        self.top_down = nn.ModuleList(
            _TopDown(outs[i + 1], in_channels[i], outs[i], self._fuse(outs[i]), **self.cfg)
            for i in reversed(range(len(outs) - 1))
        )
        self.bottom_up = nn.ModuleList(
            _BottomUp(outs[i - 1], outs[i], self._fuse(outs[i]), **self.cfg)
            for i in range(1, len(outs))
        )

    def _pyramid(self, in_channels: int, out_channels: int) -> nn.Module:
        n, cfg = out_channels, self.cfg
        rows = ((1, n), (3, 2 * n), (1, n))
        before, after = conv_chain(in_channels, rows, **cfg), conv_chain(4 * n, rows, **cfg)
        return nn.Sequential(*before, SpatialPyramidPooling(), *after)

    def _fuse(self, n: int) -> nn.Module:
        """The block after a concatenation, from ``2 * n`` to ``n`` channels."""
        rows = ((1, n), (3, 2 * n), (1, n), (3, 2 * n), (1, n))
        return nn.Sequential(*conv_chain(2 * n, rows, **self.cfg))

    def forward(self, feats: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        down = [self.pyramid(feats[-1])]
        for layer, fine in zip(self.top_down, reversed(feats[:-1]), strict=True):
            down.append(layer(down[-1], fine))
        outs = [down.pop()]
        for layer in self.bottom_up:
            outs.append(layer(outs[-1], down.pop()))
        return tuple(outs)
