"""From feature maps to corners: CornerNet, CornerNet-Saccade, CenterNet triplets.

Each stack of the network has its own branches. A keypoint (top left, bottom right, centre) has one
pooling module, which its heatmap, embedding and offset branches share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from mmengine.model import BaseModule, bias_init_with_prob
from torch import Tensor, nn

from mmdet_losses.detectors.corner.contracts import (
    CenterNetTripletOutputs,
    CornerNetOutputs,
    CornerNetSaccadeOutputs,
)
from mmdet_losses.networks.corner_pool import CascadeCornerPooling, CenterPooling, CornerPooling
from mmdet_losses.registry import MODELS


class _Shape(NamedTuple):
    """What all branches of a predictor agree on; see ``CornerNetPredictor``."""

    in_channels: int
    num_classes: int
    channels: int
    branch_kernel: int
    pool_channels: int
    prior: float

    def branch(self, out_channels: int, in_channels: int | None = None) -> nn.Sequential:
        """Convolution, ReLU, 1x1 convolution; both convolutions with bias and without a norm."""
        kernel = self.branch_kernel
        return nn.Sequential(
            nn.Conv2d(in_channels or self.in_channels, self.channels, kernel, padding=kernel // 2),
            nn.ReLU(inplace=True),
            nn.Conv2d(self.channels, out_channels, 1),
        )

    def score_branch(self, out_channels: int, in_channels: int | None = None) -> nn.Sequential:
        """A branch whose scores start at ``prior``."""
        branch = self.branch(out_channels, in_channels)
        nn.init.constant_(branch[-1].bias, bias_init_with_prob(self.prior))
        return branch


class CornerBranches(nn.Module):
    """The branches of one stack: (B, ``in_channels``, H, W) to the maps of both corners."""

    pool: type[CornerPooling] = CornerPooling

    def __init__(self, shape: _Shape) -> None:
        super().__init__()
        self.tl_pool = self.pool(shape.in_channels, 'top_left', shape.pool_channels)
        self.br_pool = self.pool(shape.in_channels, 'bottom_right', shape.pool_channels)
        self.tl_heatmap = shape.score_branch(shape.num_classes)
        self.br_heatmap = shape.score_branch(shape.num_classes)
        self.tl_embedding, self.br_embedding = shape.branch(1), shape.branch(1)
        self.tl_offset, self.br_offset = shape.branch(2), shape.branch(2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Field of the outputs -> map."""
        tl, br = self.tl_pool(x), self.br_pool(x)
        return dict(
            tl_heatmap=self.tl_heatmap(tl),
            br_heatmap=self.br_heatmap(br),
            tl_embedding=self.tl_embedding(tl),
            br_embedding=self.br_embedding(br),
            tl_offset=self.tl_offset(tl),
            br_offset=self.br_offset(br),
        )


class TripletBranches(CornerBranches):
    """Corners behind cascade pools, and the centre behind a centre pool (it has no embedding)."""

    pool = CascadeCornerPooling

    def __init__(self, shape: _Shape) -> None:
        super().__init__(shape)
        self.center_pool = CenterPooling(shape.in_channels, shape.pool_channels)
        self.center_heatmap = shape.score_branch(shape.num_classes)
        self.center_offset = shape.branch(2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Field of the outputs -> map."""
        center = self.center_pool(x)
        return dict(
            super().forward(x),
            center_heatmap=self.center_heatmap(center),
            center_offset=self.center_offset(center),
        )


@MODELS.register_module()
class CornerNetPredictor(BaseModule):
    """CornerNet and CornerNet-Squeeze: two corners per stack.

    Args:
        in_channels: channels of the feature maps.
        num_classes: classes, one heatmap each.
        num_stacks: feature maps that come in, one set of branches each.
        channels: width inside a branch.
        branch_kernel: size of a branch's first convolution; 1 in CornerNet-Squeeze.
        pool_channels: width of the pooled branches in a corner module.
        prior: mean score of a fresh heatmap (the official bias of -2.19 is 0.1).
        every_stack: at test time also run the branches of the earlier stacks, which only
            training needs; their outputs are in ``earlier``.
    """

    outputs_type: type = CornerNetOutputs
    branches: Callable[[_Shape], CornerBranches] = CornerBranches

    def __init__(
        self,
        in_channels: int = 256,
        num_classes: int = 80,
        num_stacks: int = 1,
        channels: int = 256,
        branch_kernel: int = 3,
        pool_channels: int = 128,
        prior: float = 0.1,
        every_stack: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.every_stack = every_stack
        shape = _Shape(in_channels, num_classes, channels, branch_kernel, pool_channels, prior)
        self.stacks = nn.ModuleList(self.branches(shape) for _ in range(num_stacks))

    def forward(self, feats: Sequence[Tensor]) -> CornerNetOutputs:
        """Feature maps (B, ``in_channels``, H, W), first stack first, to the outputs.

        Raises:
            ValueError: the number of maps differs from ``num_stacks``.
        """
        return self._run([(feat,) for feat in feats])

    def _run(self, inputs: Sequence[tuple[Tensor, ...]]) -> CornerNetOutputs:
        if len(inputs) != len(self.stacks):
            raise ValueError(
                f'{type(self).__name__} got the feature maps of {len(inputs)} stacks and has '
                f'num_stacks={len(self.stacks)}; make the backbone and the predictor agree.'
            )
        first = 0 if self.training or self.every_stack else len(inputs) - 1
        *earlier, last = (
            self.outputs_type(**stack(*maps))
            for stack, maps in zip(self.stacks[first:], inputs[first:], strict=True)
        )
        return last._replace(earlier=tuple(earlier))


@MODELS.register_module()
class CenterNetTripletPredictor(CornerNetPredictor):
    """CenterNet triplets: two corners and a centre per stack; arguments as in its parent."""

    outputs_type = CenterNetTripletOutputs
    branches = TripletBranches


class SaccadeBranches(CornerBranches):
    """Corners, and one attention map per inner map of the hourglass."""

    def __init__(self, shape: _Shape, attention_channels: Sequence[int]) -> None:
        super().__init__(shape)
        self.attentions = nn.ModuleList(
            shape.score_branch(1, channels) for channels in attention_channels
        )

    def forward(self, x: Tensor, *inner: Tensor) -> dict[str, Tensor | tuple[Tensor, ...]]:
        """Field of the outputs -> map, ``attentions`` -> one map per inner map."""
        attentions = tuple(
            attention(each) for attention, each in zip(self.attentions, inner, strict=True)
        )
        return dict(super().forward(x), attentions=attentions)


@MODELS.register_module()
class CornerNetSaccadePredictor(CornerNetPredictor):
    """CornerNet-Saccade: two corners and attention maps per stack.

    Args:
        attention_channels: channels of the inner maps, coarsest first.

    The other arguments are its parent's.
    """

    outputs_type = CornerNetSaccadeOutputs

    def __init__(
        self,
        in_channels: int = 256,
        num_classes: int = 80,
        num_stacks: int = 1,
        channels: int = 256,
        branch_kernel: int = 3,
        pool_channels: int = 128,
        attention_channels: Sequence[int] = (384, 384, 256),
        prior: float = 0.1,
        every_stack: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        self.branches = partial(SaccadeBranches, attention_channels=attention_channels)
        self.scales = len(attention_channels)
        super().__init__(
            in_channels,
            num_classes,
            num_stacks,
            channels,
            branch_kernel,
            pool_channels,
            prior,
            every_stack,
            init_cfg,
        )

    def forward(self, feats: Sequence[Tensor]) -> CornerNetSaccadeOutputs:
        """Maps of the stacks, first stack first, then their inner maps, stack by stack.

        Raises:
            ValueError: the maps are not ``num_stacks`` times one plus the inner ones.
        """
        num_stacks = len(self.stacks)
        if len(feats) != num_stacks * (1 + self.scales):
            raise ValueError(
                f'CornerNetSaccadePredictor got {len(feats)} feature maps and needs {num_stacks} '
                f'stacks times (1 + {self.scales} inner maps); set with_merges=True in the '
                'backbone and one entry of attention_channels per inner map.'
            )
        inner = feats[num_stacks:]
        return self._run(
            [
                (feat, *inner[k * self.scales : (k + 1) * self.scales])
                for k, feat in enumerate(feats[:num_stacks])
            ]
        )
