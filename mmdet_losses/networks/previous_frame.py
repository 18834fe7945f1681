"""CenterTrack's additional inputs for any backbone."""

from __future__ import annotations

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet_losses.registry import MODELS

IMAGE, HEATMAP = 3, 1  # channels


@MODELS.register_module()
class PreviousFrameBackbone(BaseModule):
    """A backbone with additional inputs: the previous frame and the heatmap of its objects.

    Each additional input has a stem: a 7x7 convolution with batch norm and ReLU. The output of the
    backbone's first layer and of the stems are added; the rest of the backbone is unchanged.
    The stems are trained also where ``frozen_stages`` of the backbone includes its first layer.
    CenterTrack's DLA-34 has the same structure (:class:`~mmdet_losses.networks.dla.DLANet`).

    Args:
        backbone: config of the backbone.
        stem: name of its first layer, for example 'stem' of ``CSPDarknet``.
        channels, stride: of the output of that layer.

    Shape:
        Images (B, 3, h, w), previous frames of the same shape, heatmaps (B, 1, h, w) to the maps
        of the backbone. An input that is None is not added.

    Raises:
        ValueError: the backbone has no layer of that name.

    Reference:
        Zhou, Koltun and Krähenbühl, *Tracking Objects as Points*, section 4.1.
    """

    def __init__(
        self,
        backbone: dict,
        stem: str,
        channels: int,
        stride: int = 2,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.backbone = MODELS.build(backbone)
        layers = dict(self.backbone.named_children())
        if stem not in layers:
            raise ValueError(
                f'{type(self.backbone).__name__} has no layer {stem!r}; choose stem from '
                f'{", ".join(layers)}.'
            )
        self.stem = stem
        setattr(self.backbone, stem, SumOfStems(layers[stem], channels, stride))

    def train(self, mode: bool = True) -> PreviousFrameBackbone:
        """Set the mode; the additional stems are trained also where the backbone is frozen."""
        super().train(mode)  # MMDetection's backbones freeze their stages here
        stems = getattr(self.backbone, self.stem)
        for stem in (stems.previous_image, stems.previous_heatmap):
            stem.train(mode).requires_grad_(True)
        return self

    def forward(
        self, x: Tensor, pre_img: Tensor | None = None, pre_hm: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """See Shape."""
        given = [each for each in (x, pre_img, pre_hm) if each is not None]
        return self.backbone(torch.cat(given, 1) if len(given) > 1 else x)


class SumOfStems(nn.Module):
    """A first layer, and the stems for the further channels of the input."""

    def __init__(self, first: nn.Module, channels: int, stride: int) -> None:
        super().__init__()
        self.image = first
        self.previous_image, self.previous_heatmap = (
            ConvModule(
                each, channels, 7, stride=stride, padding=3, norm_cfg={'type': 'BN'}, bias=False
            )
            for each in (IMAGE, HEATMAP)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 4, 6 or 7, h, w): image, then optionally previous frame and previous heatmap."""
        count = x.shape[1] - IMAGE
        features = self.image(x[:, :IMAGE])
        if count >= IMAGE:
            features = features + self.previous_image(x[:, IMAGE : 2 * IMAGE])
        if count % IMAGE == HEATMAP:
            features = features + self.previous_heatmap(x[:, -HEATMAP:])
        return features
