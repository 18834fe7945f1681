"""Predictors of SSD and RetinaNet: feature maps to class logits and encoded boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet_losses.detectors.anchor.contracts import RetinaNetOutputs, SSDOutputs
from mmdet_losses.registry import MODELS


@MODELS.register_module()
class SSDPredictor(BaseModule):
    """SSD's predictor: per map one 3x3 convolution for classes and one for boxes.

    Shape:
        feats: (B, in_channels[i], H, W) each. Returns :class:`SSDOutputs`.

    Convention:
        The background is the last class, ``num_classes``; the official code has it first.

    Args:
        num_classes: classes without the background.
        in_channels: channels of each map.
        num_anchors: priors per cell of each map.
        background: the classes have a channel for the background; False for sigmoids.

    Reference:
        Liu et al., *SSD: Single Shot MultiBox Detector*, 2016.
    """

    def __init__(
        self,
        num_classes: int = 20,
        in_channels: Sequence[int] = (512, 1024, 512, 256, 256, 256),
        num_anchors: Sequence[int] = (4, 6, 6, 6, 4, 4),
        background: bool = True,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            init_cfg or dict(type='Xavier', layer='Conv2d', distribution='uniform', bias=0)
        )
        pairs = list(zip(in_channels, num_anchors, strict=True))
        self.cls_convs = nn.ModuleList(
            nn.Conv2d(channels, anchors * (num_classes + background), 3, padding=1)
            for channels, anchors in pairs
        )
        self.box_convs = nn.ModuleList(
            nn.Conv2d(channels, anchors * 4, 3, padding=1) for channels, anchors in pairs
        )

    def forward(self, feats: tuple[Tensor, ...]) -> SSDOutputs:
        return SSDOutputs(
            tuple(conv(x) for conv, x in zip(self.cls_convs, feats, strict=True)),
            tuple(conv(x) for conv, x in zip(self.box_convs, feats, strict=True)),
        )


@MODELS.register_module()
class RetinaNetPredictor(BaseModule):
    """RetinaNet's predictor: two towers of 3x3 convolutions, shared by all maps.

    The layers are those of MMDetection's RetinaHead.

    Shape:
        feats: (B, in_channels, H, W) each. Returns :class:`RetinaNetOutputs`.

    Args:
        num_classes: classes.
        in_channels: channels of every map.
        num_anchors: anchors per cell.
        feat_channels: channels of the towers.
        stacked_convs: number of convolutions per tower.
        prior: initial score of every class, 0.01 in the paper.

    Reference:
        Lin et al., *Focal Loss for Dense Object Detection*, 2017, section 4.
    """

    def __init__(
        self,
        num_classes: int = 80,
        in_channels: int = 256,
        num_anchors: int = 9,
        feat_channels: int = 256,
        stacked_convs: int = 4,
        prior: float = 0.01,
        norm_cfg: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        final = dict(type='Normal', name='retina_cls', std=0.01, bias=math.log(prior / (1 - prior)))
        super().__init__(init_cfg or dict(type='Normal', layer='Conv2d', std=0.01, override=final))
        towers = [
            nn.ModuleList(
                ConvModule(
                    feat_channels if index else in_channels,
                    feat_channels,
                    3,
                    padding=1,
                    norm_cfg=norm_cfg,
                )
                for index in range(stacked_convs)
            )
            for _ in range(2)
        ]
        self.cls_convs, self.reg_convs = towers
        channels = feat_channels if stacked_convs else in_channels
        self.retina_cls = nn.Conv2d(channels, num_anchors * num_classes, 3, padding=1)
        self.retina_reg = nn.Conv2d(channels, num_anchors * 4, 3, padding=1)

    def forward(self, feats: tuple[Tensor, ...]) -> RetinaNetOutputs:
        cls, box = zip(*(self._level(x) for x in feats), strict=True)
        return RetinaNetOutputs(cls, box)

    def _level(self, x: Tensor) -> tuple[Tensor, Tensor]:
        cls, box = x, x
        for cls_conv, reg_conv in zip(self.cls_convs, self.reg_convs, strict=True):
            cls, box = cls_conv(cls), reg_conv(box)
        return self.retina_cls(cls), self.retina_reg(box)
