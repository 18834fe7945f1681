"""CenterTrack's additional inputs for any backbone."""

from __future__ import annotations

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet_losses.registry import MODELS

PICTURE, HEATMAP = 3, 1  # channels


@MODELS.register_module()
class PreviousFrameBackbone(BaseModule):
    """A backbone that also sees the previous picture and the heatmap of its objects.

    Beside the backbone's first layer there is a stem for each of them, a 7 x 7 convolution with
    norm and ReLU, and the three are added; the rest of the backbone is unchanged. So it is in
    CenterTrack's DLA-34, which is :class:`~mmdet_losses.networks.dla.DLANet`.

    Args:
        backbone: config of the backbone.
        stem: name of its first layer, for example 'stem' of ``CSPDarknet``.
        channels, stride: of what that layer returns.

    Shape:
        Pictures (B, 3, h, w), previous ones of the same shape, heatmaps (B, 1, h, w) to the
        backbone's maps. What is None is not added.

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
                f'{type(self.backbone).__name__} has no layer {stem!r}; stem is one of '
                f'{", ".join(layers)}.'
            )
        setattr(self.backbone, stem, SumOfStems(layers[stem], channels, stride))

    def forward(
        self, x: Tensor, pre_img: Tensor | None = None, pre_hm: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """See Shape."""
        given = [each for each in (x, pre_img, pre_hm) if each is not None]
        return self.backbone(torch.cat(given, 1) if len(given) > 1 else x)


class SumOfStems(nn.Module):
    """A first layer, and what is added to its output for further channels of the input."""

    def __init__(self, first: nn.Module, channels: int, stride: int) -> None:
        super().__init__()
        self.picture = first
        self.previous_picture, self.previous_heatmap = (
            ConvModule(
                each, channels, 7, stride=stride, padding=3, norm_cfg={'type': 'BN'}, bias=False
            )
            for each in (PICTURE, HEATMAP)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 4, 6 or 7, h, w): picture, then perhaps previous picture, previous heatmap."""
        count = x.shape[1] - PICTURE
        features = self.picture(x[:, :PICTURE])
        if count >= PICTURE:
            features = features + self.previous_picture(x[:, PICTURE : 2 * PICTURE])
        if count % PICTURE == HEATMAP:
            features = features + self.previous_heatmap(x[:, -HEATMAP:])
        return features
