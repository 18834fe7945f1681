"""Deep layer aggregation: DLA-34 and smaller networks.

Reference:
    Yu et al., *Deep Layer Aggregation*, CVPR 2018, figures 2 and 3. The additional stems for the
    previous frame and heatmap: Zhou et al., *Tracking Objects as Points*, ECCV 2020.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet_losses.networks.freezing import FreezableBackbone
from mmdet_losses.registry import MODELS

_NORM = {'type': 'BN', 'requires_grad': True}


class _Block(nn.Module):
    """Two 3x3 convolutions, added to a residual that is passed in."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvModule(
            in_channels, out_channels, 3, stride=stride, padding=1, norm_cfg=_NORM
        )
        self.conv2 = ConvModule(
            out_channels, out_channels, 3, padding=1, norm_cfg=_NORM, act_cfg=None
        )

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return torch.relu(self.conv2(self.conv1(x)) + residual)


class Tree(nn.Module):
    """A binary tree of blocks whose root fuses both halves and the maps passed to it.

    Args:
        levels: depth; a tree of one level has two blocks.
        in_channels, out_channels, stride: of the whole tree.
        keep_input: pass the pooled input to the last root.
        passed_channels: total channels of the maps that the parent tree passes.
    """

    def __init__(
        self,
        levels: int,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        keep_input: bool = False,
        passed_channels: int = 0,
    ) -> None:
        super().__init__()
        self.keep_input, self.leaf = keep_input, levels == 1
        passed_channels += in_channels if keep_input else 0
        self.pool = nn.MaxPool2d(stride, stride) if stride > 1 else nn.Identity()
        self.tree1: nn.Module
        self.tree2: nn.Module
        if self.leaf:
            self.tree1 = _Block(in_channels, out_channels, stride)
            self.tree2 = _Block(out_channels, out_channels, 1)
            root_channels = 2 * out_channels + passed_channels
            self.root = ConvModule(root_channels, out_channels, 1, norm_cfg=_NORM)
            self.project = (
                ConvModule(in_channels, out_channels, 1, norm_cfg=_NORM, act_cfg=None)
                if in_channels != out_channels
                else nn.Identity()
            )
        else:
            self.tree1 = Tree(levels - 1, in_channels, out_channels, stride)
            self.tree2 = Tree(
                levels - 1,
                out_channels,
                out_channels,
                passed_channels=passed_channels + out_channels,
            )

    def forward(self, x: Tensor, passed: tuple[Tensor, ...] = ()) -> Tensor:
        """(B, ``in_channels``, H, W) -> (B, ``out_channels``, H / stride, W / stride)."""
        pooled = self.pool(x) if self.leaf or self.keep_input else x
        if self.keep_input:
            passed = (*passed, pooled)
        if not self.leaf:
            first = self.tree1(x)
            return self.tree2(first, (*passed, first))
        first = self.tree1(x, self.project(pooled))
        second = self.tree2(first, first)
        return self.root(torch.cat((second, first, *passed), 1))


@MODELS.register_module()
class DLANet(FreezableBackbone):
    """DLA-34 by default.

    Shape:
        (B, 3, h, w) -> maps (B, ``channels[i]``, h / 2**i, w / 2**i) for i in ``out_indices``;
        h and w must be multiples of 2**(number of levels - 1).

    Args:
        levels: depth per level; the first two are plain convolutions, the others trees.
        channels: width per level.
        out_indices: levels that are returned.
        previous_image, previous_heatmap: add the stems of CenterTrack, whose activations are added
            to those of the image.
        frozen_stages: the layers of level 0 to this level are not trained, except these stems
            (:class:`~mmdet_losses.networks.freezing.FreezableBackbone`); -1 trains all.
    """

    def __init__(
        self,
        levels: Sequence[int] = (1, 1, 1, 2, 2, 1),
        channels: Sequence[int] = (16, 32, 64, 128, 256, 512),
        out_indices: Sequence[int] = (2, 3, 4, 5),
        previous_image: bool = False,
        previous_heatmap: bool = False,
        init_cfg: dict | None = None,
        frozen_stages: int = -1,
    ) -> None:
        super().__init__(init_cfg)
        if len(levels) != len(channels) or len(levels) < 3:
            raise ValueError(
                f'levels={tuple(levels)} and channels={tuple(channels)} are invalid; give both the '
                'same length, three or more.'
            )
        self.out_indices = tuple(out_indices)
        self.base_layer = self._stem(3, channels[0])
        self.pre_img_layer = self._stem(3, channels[0]) if previous_image else None
        self.pre_hm_layer = self._stem(1, channels[0]) if previous_heatmap else None
        self.levels = nn.ModuleList(
            (
                self._plain(channels[0], channels[0], levels[0], 1),
                self._plain(channels[0], channels[1], levels[1], 2),
            )
        )
        for i in range(2, len(levels)):
            tree = Tree(levels[i], channels[i - 1], channels[i], stride=2, keep_input=i > 2)
            self.levels.append(tree)
        self.freeze(frozen_stages + 1)

    def stages_in_order(self) -> list[nn.Module]:
        """The levels; the first one with the stem of the image."""
        return [nn.ModuleList((self.base_layer, self.levels[0])), *self.levels[1:]]

    @staticmethod
    def _stem(in_channels: int, out_channels: int) -> ConvModule:
        return ConvModule(in_channels, out_channels, 7, padding=3, norm_cfg=_NORM)

    @staticmethod
    def _plain(in_channels: int, out_channels: int, count: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            *(
                ConvModule(
                    in_channels if i == 0 else out_channels,
                    out_channels,
                    3,
                    stride=stride if i == 0 else 1,
                    padding=1,
                    norm_cfg=_NORM,
                )
                for i in range(count)
            )
        )

    def forward(
        self, x: Tensor, pre_img: Tensor | None = None, pre_hm: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Image, and optionally the previous frame and its heatmap, to feature maps.

        Without ``pre_img`` or ``pre_hm`` nothing is added for it. This differs from an input of
        zeros, because the stem also adds the bias of its batch norm.

        Args:
            pre_img: (B, 3, h, w) previous frame, normalised like ``x``.
            pre_hm: (B, 1, h, w) rendered centres of the previous frame, at input resolution.

        Raises:
            ValueError: the levels do not divide the size, or an input has no stem.
        """
        step = 2 ** (len(self.levels) - 1)
        if x.shape[-2] % step or x.shape[-1] % step:
            raise ValueError(
                f'The input of {type(self).__name__} is {x.shape[-2]} x {x.shape[-1]} pixels; pad '
                f'it to multiples of {step}.'
            )
        features = self.base_layer(x)
        for name, extra, stem in (
            ('previous_image', pre_img, self.pre_img_layer),
            ('previous_heatmap', pre_hm, self.pre_hm_layer),
        ):
            if extra is None:
                continue
            if stem is None:
                raise ValueError(f'DLANet has no stem for this input; build it with {name}=True.')
            features = features + stem(extra)
        maps = []
        for level in self.levels:
            features = level(features)
            maps.append(features)
        return tuple(maps[i] for i in self.out_indices)
