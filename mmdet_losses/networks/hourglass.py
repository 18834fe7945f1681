"""Stacked hourglasses that MMDetection's ``HourglassNet`` does not cover.

MMDetection's class equals the official Hourglass-104; use it for two stacks. The classes of this
file have the same module names and add three features: one stack without an unused residual, the
maps inside the hourglass as outputs, and other blocks.

Reference:
    Newell et al., *Stacked Hourglass Networks*, ECCV 2016; Law and Deng, *CornerNet*, ECCV 2018,
    section 3.6; Law et al., *CornerNet-Lite*, BMVC 2020, sections 3.3 and 4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmdet.models.backbones.resnet import BasicBlock
from torch import Tensor, nn
from torch.nn import functional as F

from mmdet_losses.networks.freezing import FreezableBackbone
from mmdet_losses.registry import MODELS

_NORM = dict(type='BN', requires_grad=True)

# A function of (input channels, output channels, stride) that returns a block.
Block = Callable[[int, int, int], nn.Module]


def residual(in_channels: int, out_channels: int, stride: int = 1) -> BasicBlock:
    """Two 3x3 convolutions, with a 1x1 shortcut if the stride or the channels change."""
    shortcut = None
    if stride != 1 or in_channels != out_channels:
        shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
            nn.BatchNorm2d(out_channels),
        )
    return BasicBlock(in_channels, out_channels, stride, downsample=shortcut)


def stage(
    block: Block,
    in_channels: int,
    out_channels: int,
    count: int,
    stride: int = 1,
    *,
    change_last: bool = False,
) -> nn.Sequential:
    """``count`` blocks. The first has the stride; the first or the last changes the channels."""
    before = count if change_last else 1
    widths = [in_channels] * before + [out_channels] * (count + 1 - before)
    return nn.Sequential(
        *(block(widths[i], widths[i + 1], stride if i == 0 else 1) for i in range(count))
    )


class Hourglass(nn.Module):
    """One hourglass: strided blocks down, up-sampling with a side branch per level up.

    Args:
        block: function that returns a block.
        upsample: function from a number of channels to the up-sampling layer; None for nearest.
        channels, blocks: channels and number of blocks per level, finest first. There is one
            down-sampling between two levels.
    """

    def __init__(
        self,
        block: Block,
        channels: Sequence[int],
        blocks: Sequence[int],
        upsample: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        here, below, count = channels[0], channels[1], blocks[0]
        self.up1 = stage(block, here, here, count)
        self.low1 = stage(block, here, below, count, stride=2)
        self.low2 = (
            Hourglass(block, channels[1:], blocks[1:], upsample)
            if len(channels) > 2
            else stage(block, below, below, blocks[1])
        )
        self.low3 = stage(block, below, here, count, change_last=True)
        self.up2 = upsample(here) if upsample else None

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, H, W) to the merged maps of all levels, coarsest first."""
        side = self.up1(x)
        low = self.low2(self.low1(x))
        merged = low if isinstance(low, list) else []
        low = self.low3(merged[-1] if merged else low)
        height, width = side.shape[-2:]
        if self.up2 is None:
            up = F.interpolate(low, size=(height, width), mode='nearest')
        else:
            up = self.up2(low)[..., :height, :width]  # odd sizes: cut the extra row or column
        return [*merged, side + up]


@MODELS.register_module()
class StackedHourglassNet(FreezableBackbone):
    """A sequence of residual hourglasses; Hourglass-52 by default.

    The input of the next stack is ``residual(relu(conv1x1(input) + conv1x1(output)))``.
    Predictions are not fed back.

    Shape:
        (B, 3, h, w) -> ``num_stacks`` maps (B, ``feat_channels``, h/4, w/4), first stack first;
        with ``with_merges`` followed by the inner maps of each stack, coarsest first,
        ``len(stage_channels) - 1`` per stack.

    Args:
        num_stacks: number of hourglasses.
        stage_channels, stage_blocks: channels and number of blocks per level, finest first.
        feat_channels: channels of the maps for the predictor.
        with_merges: also return the inner maps, for the attention of CornerNet-Saccade.
        frozen_stages: 0 does not train the stem, n neither stem nor the first n stacks
            (:class:`~mmdet_losses.networks.freezing.FreezableBackbone`); -1 trains all.
    """

    stem_stages = 1
    block: Callable[..., nn.Module] = staticmethod(residual)
    upsample: Callable[[int], nn.Module] | None = None

    def __init__(
        self,
        num_stacks: int = 1,
        stage_channels: Sequence[int] = (256, 256, 384, 384, 384, 512),
        stage_blocks: Sequence[int] = (2, 2, 2, 2, 2, 4),
        feat_channels: int = 256,
        with_merges: bool = False,
        init_cfg: dict | None = None,
        frozen_stages: int = -1,
    ) -> None:
        super().__init__(init_cfg)
        if num_stacks < 1 or len(stage_channels) < 2 or len(stage_channels) != len(stage_blocks):
            raise ValueError(
                f'num_stacks={num_stacks}, stage_channels={tuple(stage_channels)}, stage_blocks='
                f'{tuple(stage_blocks)} are invalid; give at least one stack, at least two levels, '
                'and one number of blocks per level.'
            )
        self.num_stacks, self.with_merges = num_stacks, with_merges
        width = stage_channels[0]
        self.stem = nn.Sequential(
            ConvModule(3, width // 2, 7, stride=2, padding=3, norm_cfg=_NORM),
            stage(residual, width // 2, width, 1, stride=2),
            *(stage(residual, width, width, 1, stride=2) for _ in range(self.stem_stages - 1)),
        )
        self.hourglass_modules = nn.ModuleList(
            Hourglass(self.block, stage_channels, stage_blocks, self.upsample)
            for _ in range(num_stacks)
        )
        self.out_convs = nn.ModuleList(
            ConvModule(width, feat_channels, 3, padding=1, norm_cfg=_NORM)
            for _ in range(num_stacks)
        )
        between = range(num_stacks - 1)
        self.conv1x1s = nn.ModuleList(self._project(width, width) for _ in between)
        self.remap_convs = nn.ModuleList(self._project(feat_channels, width) for _ in between)
        self.inters = nn.ModuleList(residual(width, width) for _ in between)
        self.freeze(frozen_stages + 1)

    def stages_in_order(self) -> list[nn.Module]:
        """Stem and stacks; a stack contains the layers between it and the next one."""
        columns = (
            self.hourglass_modules,
            self.out_convs,
            self.conv1x1s,
            self.remap_convs,
            self.inters,
        )
        rows = zip_longest(*columns)
        return [self.stem, *(nn.ModuleList(filter(None, row)) for row in rows)]

    @staticmethod
    def _project(in_channels: int, out_channels: int) -> ConvModule:
        return ConvModule(in_channels, out_channels, 1, norm_cfg=_NORM, act_cfg=None)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images to one map per stack (and the inner maps, see the class)."""
        x = self.stem(x)
        features, merges = [], []
        for k, (hourglass, out_conv) in enumerate(
            zip(self.hourglass_modules, self.out_convs, strict=True)
        ):
            inner = hourglass(x)
            feature = out_conv(inner[-1])
            features.append(feature)
            merges.extend(inner)
            if k + 1 < self.num_stacks:
                mixed = self.conv1x1s[k](x) + self.remap_convs[k](feature)
                x = self.inters[k](torch.relu(mixed))
        return (*features, *merges) if self.with_merges else tuple(features)


@MODELS.register_module()
class SaccadeHourglassNet(StackedHourglassNet):
    """CornerNet-Saccade's Hourglass-54: three shallow hourglasses, with their inner maps.

    Shape:
        (B, 3, h, w) -> 3 maps (B, 256, h/4, w/4), then for each stack the inner maps of strides
        16, 8 and 4 with 384, 384 and 256 channels.

    Args:
        options: ``init_cfg`` and ``frozen_stages`` of :class:`StackedHourglassNet`.
    """

    def __init__(
        self,
        num_stacks: int = 3,
        stage_channels: Sequence[int] = (256, 384, 384, 512),
        stage_blocks: Sequence[int] = (1, 1, 1, 1),
        feat_channels: int = 256,
        with_merges: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(
            num_stacks, stage_channels, stage_blocks, feat_channels, with_merges, **options
        )


# Official keys -> ours, for ``core.checkpoint.KeyMap``. The trunk is at the top level in CornerNet,
# the triplets and CenterNet (points), and under ``hg`` in CornerNet-Lite.
TRUNK_CLAIMS = (
    (r'(?:hg\.)?pre\.0\.', 'backbone.stem.0.'),
    (r'(?:hg\.)?pre\.(\d+)\.', r'backbone.stem.\1.0.'),
    (r'(?:kps|hg\.hgs)\.(\d+)\.', r'backbone.hourglass_modules.\1.'),
    (r'(?:hg\.)?cnvs\.(\d+)\.', r'backbone.out_convs.\1.'),
    (r'(?:hg\.)?inters\.(\d+)\.', r'backbone.inters.\1.'),
    (r'(?:hg\.)?inters_\.(\d+)\.0\.', r'backbone.conv1x1s.\1.conv.'),
    (r'(?:hg\.)?inters_\.(\d+)\.1\.', r'backbone.conv1x1s.\1.bn.'),
    (r'(?:hg\.)?cnvs_\.(\d+)\.0\.', r'backbone.remap_convs.\1.conv.'),
    (r'(?:hg\.)?cnvs_\.(\d+)\.1\.', r'backbone.remap_convs.\1.bn.'),
)
TRUNK_INNER = ((r'^(backbone\..*)\.skip\.', r'\1.downsample.'),)
