"""Predictors of the centre family: feature maps to outputs."""

from __future__ import annotations

from typing import Any

from mmengine.model import BaseModule, bias_init_with_prob
from torch import Tensor, nn

from mmdet_losses.detectors.center.contracts import (
    CenterNetPointsOutputs,
    CenterNetPoseOutputs,
    CenterTrackOutputs,
)
from mmdet_losses.registry import MODELS


class PointBranch(nn.Sequential):
    """3 x 3 convolution, ReLU, 1 x 1 convolution: the branch of every centre-family output.

    Args:
        prior: initial mean score; the weights keep PyTorch's initialisation, so that gradients
            reach the network from the first step. ``None``: the branch has no scores, and its
            biases start at 0.
        weight_std: initial standard deviation of the weights of a branch without scores;
            ``None`` is PyTorch's initialisation.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        out_channels: int,
        prior: float | None = None,
        weight_std: float | None = None,
    ) -> None:
        super().__init__(
            nn.Conv2d(in_channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, out_channels, 1),
        )
        if prior is not None:
            nn.init.constant_(self[2].bias, bias_init_with_prob(prior))
            return
        for conv in (self[0], self[2]):
            nn.init.zeros_(conv.bias)
            if weight_std is not None:
                nn.init.normal_(conv.weight, std=weight_std)


class _PointPredictor(BaseModule):
    """Named branches, one set for every stack.

    Args:
        in_channels: channels of the feature maps.
        branches: field of the outputs -> (channels, prior score), or None for a field that the
            network lacks.

    The other arguments: see ``CenterNetPointsPredictor``.
    """

    outputs_type: type

    def __init__(
        self,
        in_channels: int,
        branches: dict[str, tuple[int, float | None] | None],
        channels: int,
        num_stacks: int = 1,
        weight_std: float | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.num_stacks, self.fields = num_stacks, tuple(branches)
        for field, branch in branches.items():
            stacks = branch and nn.ModuleList(
                PointBranch(in_channels, channels, *branch, weight_std) for _ in range(num_stacks)
            )
            self.register_module(field, stacks)

    def forward(self, feats: tuple[Tensor, ...]) -> tuple:
        """See Shape of the class."""
        if len(feats) != self.num_stacks:
            raise ValueError(
                f'The neck returns {len(feats)} feature maps but the predictor has '
                f'num_stacks={self.num_stacks}; make them equal.'
            )
        branches = {field: getattr(self, field) for field in self.fields}
        *earlier, last = (
            self.outputs_type(
                **{field: each and each[stack](feat) for field, each in branches.items()}
            )
            for stack, feat in enumerate(feats)
        )
        return last._replace(earlier=tuple(earlier))


@MODELS.register_module()
class CenterNetPointsPredictor(_PointPredictor):
    """Heatmap, size and offset branches, one set for every stack of the network.

    Args:
        in_channels: channels of the feature maps.
        num_classes: C.
        channels: hidden channels of a branch (official: 64 for ResNet-DCN, 256 for DLA and
            hourglass).
        class_specific_size: two size channels per class instead of two.
        with_offset: have the offset branch.
        prior: mean score of an untrained heatmap (the official bias of -2.19 is 0.1).
        num_stacks: number of feature maps, each with its own branches; the last one is used at
            test time.
        weight_std: initial standard deviation of the weights of the other branches (official:
            0.001 for ResNet-DCN); ``None`` is PyTorch's default (official: DLA, hourglass).

    Shape:
        A tuple of ``num_stacks`` maps (B, ``in_channels``, H, W) to
        :class:`~mmdet_losses.detectors.center.contracts.CenterNetPointsOutputs`.

    Raises:
        ValueError: the number of feature maps is not ``num_stacks``.
    """

    outputs_type = CenterNetPointsOutputs

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        channels: int = 64,
        class_specific_size: bool = False,
        with_offset: bool = True,
        prior: float = 0.1,
        **kwargs: Any,
    ) -> None:
        branches = dict(
            heatmap=(num_classes, prior),
            size=(2 * num_classes if class_specific_size else 2, None),
            offset=(2, None) if with_offset else None,
        )
        super().__init__(in_channels, branches, channels, **kwargs)


@MODELS.register_module()
class CenterNetPosePredictor(_PointPredictor):
    """The branches of multi-person pose, one set for every stack of the network.

    Args:
        num_keypoints: K, number of keypoints of a person.
        with_offset, with_keypoint_heatmap, with_keypoint_offset: have these branches.

    The other arguments, Shape and Raises are those of ``CenterNetPointsPredictor``; returns
    :class:`~mmdet_losses.detectors.center.contracts.CenterNetPoseOutputs`.
    """

    outputs_type = CenterNetPoseOutputs

    def __init__(
        self,
        in_channels: int,
        num_classes: int = 1,
        num_keypoints: int = 17,
        channels: int = 256,
        with_offset: bool = True,
        with_keypoint_heatmap: bool = True,
        with_keypoint_offset: bool = True,
        prior: float = 0.1,
        **kwargs: Any,
    ) -> None:
        branches = dict(
            heatmap=(num_classes, prior),
            size=(2, None),
            keypoints=(2 * num_keypoints, None),
            offset=(2, None) if with_offset else None,
            keypoint_heatmap=(num_keypoints, prior) if with_keypoint_heatmap else None,
            keypoint_offset=(2, None) if with_keypoint_offset else None,
        )
        super().__init__(in_channels, branches, channels, **kwargs)


@MODELS.register_module()
class CenterTrackPredictor(_PointPredictor):
    """The branches of CenterTrack, one set for every stack of the network.

    Args:
        with_offset, with_tracking, with_ltrb_amodal, with_ltrb: have these branches; the MOT
            models have ``ltrb_amodal``, the edges of the unclipped box.
        num_keypoints: K; adds the three branches of keypoints. None: there are none.
        prior: mean score of an untrained heatmap (the official bias of -4.6 is 0.01).

    The other arguments, Shape and Raises are those of ``CenterNetPointsPredictor``; returns
    :class:`~mmdet_losses.detectors.center.contracts.CenterTrackOutputs`.
    """

    outputs_type = CenterTrackOutputs

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        channels: int = 256,
        with_offset: bool = True,
        with_tracking: bool = True,
        with_ltrb_amodal: bool = False,
        with_ltrb: bool = False,
        num_keypoints: int | None = None,
        prior: float = 0.01,
        **kwargs: Any,
    ) -> None:
        branches: dict[str, tuple[int, float | None] | None] = dict(
            heatmap=(num_classes, prior),
            size=(2, None),
            offset=(2, None) if with_offset else None,
            tracking=(2, None) if with_tracking else None,
            ltrb_amodal=(4, None) if with_ltrb_amodal else None,
            ltrb=(4, None) if with_ltrb else None,
        )
        if num_keypoints is not None:
            branches |= dict(
                keypoints=(2 * num_keypoints, None),
                keypoint_heatmap=(num_keypoints, prior),
                keypoint_offset=(2, None),
            )
        super().__init__(in_channels, branches, channels, **kwargs)
