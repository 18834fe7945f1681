"""Predictors of the corner family: feature maps to outputs.

Each stack of the network has its own branches. A keypoint (top-left corner, bottom-right corner,
centre) has one pooling module, followed by its heatmap, embedding and offset branches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from mmengine.model import BaseModule, bias_init_with_prob
from torch import Tensor, nn

from mmdet_losses.detectors.corner.contracts import (
    CenterKeypoint,
    CenterNetTripletOutputs,
    CornerNetOutputs,
    CornerNetSaccadeOutputs,
    Keypoint,
)
from mmdet_losses.networks.corner_pool import CascadeCornerPooling, CenterPooling, CornerPooling
from mmdet_losses.registry import MODELS


class _Shape(NamedTuple):
    """Settings that all branches of a predictor share; see ``CornerNetPredictor``."""

    in_channels: int
    num_classes: int
    channels: int
    branch_kernel: int
    pool_channels: int
    prior: float

    def branch(self, out_channels: int) -> nn.Sequential:
        """Convolution, ReLU, 1x1 convolution; both convolutions with bias and without a norm."""
        kernel = self.branch_kernel
        return nn.Sequential(
            nn.Conv2d(self.in_channels, self.channels, kernel, padding=kernel // 2),
            nn.ReLU(inplace=True),
            nn.Conv2d(self.channels, out_channels, 1),
        )

    def score_branch(self, out_channels: int) -> nn.Sequential:
        """A branch with initial scores of ``prior``."""
        branch = self.branch(out_channels)
        nn.init.constant_(branch[-1].bias, bias_init_with_prob(self.prior))
        return branch


class CornerBranches(nn.Module):
    """Pooling and branches of one kind of corner: (B, ``in_channels``, H, W) to a ``Keypoint``."""

    def __init__(self, shape: _Shape, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool
        self.heatmap = shape.score_branch(shape.num_classes)
        self.embedding = shape.branch(1)
        self.offset = shape.branch(2)

    def forward(self, x: Tensor) -> Keypoint:
        """See the class."""
        x = self.pool(x)
        return Keypoint(self.heatmap(x), self.embedding(x), self.offset(x))


class CenterBranches(nn.Module):
    """Pooling and branches of the centre: (B, ``in_channels``, H, W) to a ``CenterKeypoint``."""

    def __init__(self, shape: _Shape) -> None:
        super().__init__()
        self.pool = CenterPooling(shape.in_channels, shape.pool_channels)
        self.heatmap = shape.score_branch(shape.num_classes)
        self.offset = shape.branch(2)

    def forward(self, x: Tensor) -> CenterKeypoint:
        """See the class."""
        x = self.pool(x)
        return CenterKeypoint(self.heatmap(x), self.offset(x))


class CornerNetStack(nn.Module):
    """Both corners of one stack."""

    pool: type[CornerPooling] = CornerPooling

    def __init__(self, shape: _Shape) -> None:
        super().__init__()
        channels = shape.in_channels, shape.pool_channels
        self.tl = CornerBranches(shape, self.pool(channels[0], 'top_left', channels[1]))
        self.br = CornerBranches(shape, self.pool(channels[0], 'bottom_right', channels[1]))

    def forward(self, x: Tensor) -> tuple:
        """(B, ``in_channels``, H, W) to the fields of the outputs."""
        return self.tl(x), self.br(x)


class TripletStack(CornerNetStack):
    """Corners with cascade pooling and a centre with centre pooling, of one stack."""

    pool = CascadeCornerPooling

    def __init__(self, shape: _Shape) -> None:
        super().__init__(shape)
        self.center = CenterBranches(shape)

    def forward(self, x: Tensor) -> tuple:
        """(B, ``in_channels``, H, W) to the fields of the outputs."""
        return *super().forward(x), self.center(x)


class SaccadeStack(CornerNetStack):
    """Corners, and one attention map per inner map of the hourglass, of one stack."""

    def __init__(self, shape: _Shape, attention_channels: Sequence[int]) -> None:
        super().__init__(shape)
        self.attentions = nn.ModuleList(
            shape._replace(in_channels=channels).score_branch(1) for channels in attention_channels
        )

    def forward(self, x: Tensor, *inner: Tensor) -> tuple:
        """Map of the stack and its inner maps to the fields of the outputs."""
        pairs = zip(self.attentions, inner, strict=True)
        return *super().forward(x), tuple(branch(each) for branch, each in pairs)


@MODELS.register_module()
class CornerNetPredictor(BaseModule):
    """CornerNet and CornerNet-Squeeze: two corners per stack.

    Args:
        in_channels: channels of the feature maps.
        num_classes: number of classes, one heatmap each.
        num_stacks: number of feature maps, each with its own branches.
        channels: width inside a branch.
        branch_kernel: size of a branch's first convolution; 1 in CornerNet-Squeeze.
        pool_channels: width of the pooled branches in a corner module.
        prior: mean score of an untrained heatmap (the official bias of -2.19 is 0.1).
        every_stack: at test time also run the branches of the earlier stacks, which only
            training needs; their outputs are in ``earlier``.
    """

    outputs_type: type = CornerNetOutputs
    stack_type: Callable[[_Shape], CornerNetStack] = CornerNetStack

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
        self.stacks = nn.ModuleList(self.stack_type(shape) for _ in range(num_stacks))

    def forward(self, feats: Sequence[Tensor]) -> tuple:
        """Feature maps (B, ``in_channels``, H, W), first stack first, to the outputs.

        Raises:
            ValueError: the number of maps differs from ``num_stacks``.
        """
        return self._run([(feat,) for feat in feats])

    def _run(self, inputs: Sequence[tuple[Tensor, ...]]) -> tuple:
        if len(inputs) != len(self.stacks):
            raise ValueError(
                f'{type(self).__name__} got feature maps of {len(inputs)} stacks but has '
                f'num_stacks={len(self.stacks)}; set num_stacks of the backbone and of the '
                'predictor to the same number.'
            )
        first = 0 if self.training or self.every_stack else len(inputs) - 1
        *earlier, last = (
            self.outputs_type(*stack(*maps))
            for stack, maps in zip(self.stacks[first:], inputs[first:], strict=True)
        )
        return last._replace(earlier=tuple(earlier))


@MODELS.register_module()
class CenterNetTripletPredictor(CornerNetPredictor):
    """CenterNet triplets: two corners and a centre per stack; arguments as in its parent."""

    outputs_type = CenterNetTripletOutputs
    stack_type = TripletStack


@MODELS.register_module()
class CornerNetSaccadePredictor(CornerNetPredictor):
    """CornerNet-Saccade: two corners and attention maps per stack.

    Args:
        attention_channels: channels of the inner maps, coarsest first.

    The other arguments are those of ``CornerNetPredictor``.
    """

    outputs_type = CornerNetSaccadeOutputs

    def __init__(
        self,
        in_channels: int = 256,
        num_classes: int = 80,
        num_stacks: int = 1,
        attention_channels: Sequence[int] = (384, 384, 256),
        **kwargs: Any,
    ) -> None:
        self.stack_type = partial(SaccadeStack, attention_channels=attention_channels)
        self.num_scales = len(attention_channels)
        super().__init__(in_channels, num_classes, num_stacks, **kwargs)

    def forward(self, feats: Sequence[Tensor]) -> tuple:
        """Compute the outputs from the feature maps and inner maps of the hourglasses.

        Args:
            feats: one feature map per stack, then the inner maps of the first stack (coarsest
                first), then those of the second stack, and so on.

        Raises:
            ValueError: the number of maps is not ``num_stacks`` x (1 + number of inner maps).
        """
        num_stacks, num_scales = len(self.stacks), self.num_scales
        if len(feats) != num_stacks * (1 + num_scales):
            raise ValueError(
                f'CornerNetSaccadePredictor got {len(feats)} feature maps but needs {num_stacks} '
                f'stacks x (1 + {num_scales} inner maps); set with_merges=True in the backbone '
                'and one entry of attention_channels per inner map.'
            )
        inner = iter(feats[num_stacks:])
        return self._run(
            [(feat, *(next(inner) for _ in range(num_scales))) for feat in feats[:num_stacks]]
        )
