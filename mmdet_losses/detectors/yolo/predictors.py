"""Predictors of the YOLO family: feature maps to raw maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet_losses.detectors.yolo.contracts import (
    GaussianYOLOOutputs,
    ScaledYOLOV4Outputs,
    YOLOV1Outputs,
    YOLOV2Outputs,
    YOLOV3Outputs,
    YOLOV4Outputs,
)
from mmdet_losses.networks.darknet_layers import BATCH_NORM, LEAKY, MISH, conv_module
from mmdet_losses.ops import check_choice
from mmdet_losses.registry import MODELS


@MODELS.register_module()
class YOLOV1Predictor(BaseModule):
    """YOLOv1's predictor: a hidden layer, dropout, and an output layer for the whole grid.

    Shape:
        feats: one (B, in_channels, H, W) with ``(H, W) == feat_size``.
        Returns :class:`YOLOV1Outputs` on a grid of ``side`` x ``side`` cells.

    Convention:
        A fully connected output layer returns one vector per image, in darknet's order: the class
        scores of all cells, then the confidences of all cells, then the boxes of all cells. The
        default is the network of the official code: three boxes per cell and a locally connected
        hidden layer of 256 channels. The network of the paper has two boxes per cell and
        ``hidden='connected'`` with 4096 units. Both have separate weights per cell, so they need
        tens of thousands of training images. ``hidden='shared'`` has the same weights in all cells
        and needs fewer images.

    Args:
        num_classes: classes.
        in_channels: channels of the map.
        feat_size: (H, W) of the map; (7, 7) for 448 x 448 images. It sets the shapes of the
            weights. With ``hidden='shared'`` it must be (side, side).
        side: number of cells along each side of the grid.
        num_boxes: number of boxes per cell.
        hidden: ``'local'`` (separate weights per cell), ``'connected'``, or ``'shared'``: a 3x3
            and a 1x1 convolution.
        hidden_channels: channels of the local or shared layer, or units of the connected one.
        dropout: probability that a hidden value is set to zero in training.

    Raises:
        ValueError: ``hidden`` is unknown, or it is 'shared' and ``feat_size`` is not (side, side).
    """

    def __init__(
        self,
        num_classes: int = 20,
        in_channels: int = 1024,
        feat_size: tuple[int, int] = (7, 7),
        side: int = 7,
        num_boxes: int = 3,
        hidden: str = 'local',
        hidden_channels: int = 256,
        dropout: float = 0.5,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.num_classes, self.side, self.num_boxes = num_classes, side, num_boxes
        cells = feat_size[0] * feat_size[1]
        check_choice('hidden', hidden, ('local', 'connected', 'shared'))
        if hidden == 'local':
            layer = MODELS.build(
                dict(
                    type='LocallyConnected2d',
                    in_channels=in_channels,
                    out_channels=hidden_channels,
                    feat_size=feat_size,
                )
            )
            self.hidden, width = nn.Sequential(layer), hidden_channels * cells
        elif hidden == 'connected':
            linear = nn.Linear(in_channels * cells, hidden_channels)
            self.hidden, width = nn.Sequential(nn.Flatten(), linear), hidden_channels
        else:
            if tuple(feat_size) != (side, side):
                raise ValueError(
                    f"feat_size={tuple(feat_size)} with hidden='shared' does not fit the grid of "
                    f'{side} x {side} cells; give both the same size.'
                )
            layer = conv_module(in_channels, hidden_channels, 3, norm_cfg=BATCH_NORM, act_cfg=None)
            self.hidden = nn.Sequential(layer)
        self.act = nn.LeakyReLU(0.1)
        self.dropout = nn.Dropout(dropout)
        values = num_classes + 5 * num_boxes
        self.output: nn.Module = (
            nn.Conv2d(hidden_channels, values, 1)
            if hidden == 'shared'
            else nn.Linear(width, side * side * values)
        )

    def forward(self, feats: tuple[Tensor, ...]) -> YOLOV1Outputs:
        """The last map to class scores, confidences and boxes of the grid."""
        hidden = self.dropout(self.act(self.hidden(feats[-1])))
        if isinstance(self.output, nn.Conv2d):
            boxes = self.num_boxes
            cls, conf, box = self.output(hidden).split([self.num_classes, boxes, 4 * boxes], dim=1)
            return YOLOV1Outputs(cls, conf, box.unflatten(1, (boxes, 4)))
        vector = self.output(hidden.flatten(1))
        return grid_from_vector(vector, self.num_classes, self.side, self.num_boxes)


@MODELS.register_module()
class YOLOV2Predictor(BaseModule):
    """YOLOv2's predictor: one 1x1 convolution on one map.

    Shape:
        feats: one (B, in_channels, H, W). Returns :class:`YOLOV2Outputs`, one level.

    Args:
        num_classes: classes C.
        in_channels: channels of the map.
        num_anchors: anchors per cell.
    """

    def __init__(
        self,
        num_classes: int = 80,
        in_channels: int = 1024,
        num_anchors: int = 5,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.pred = _last_conv(in_channels, num_anchors, num_classes, None)

    def forward(self, feats: tuple[Tensor, ...]) -> YOLOV2Outputs:
        return YOLOV2Outputs((self.pred(feats[-1]),))


class _Level(BaseModule):
    """A 3x3 convolution that doubles the channels, and the predicting 1x1 convolution."""

    def __init__(
        self, channels: int, anchors: int, classes: int, stride: int | None, box: int, **cfg: Any
    ) -> None:
        super().__init__()
        self.conv = conv_module(channels, 2 * channels, 3, **cfg)
        self.pred = _last_conv(2 * channels, anchors, classes, stride, box)

    def forward(self, x: Tensor) -> Tensor:
        return self.pred(self.conv(x))


def _last_conv(
    channels: int, anchors: int, classes: int, stride: int | None, box: int = 4
) -> nn.Conv2d:
    """The predicting 1x1 convolution; with a stride its biases start at the prior of objects.

    ``box`` is the number of values of a box.
    """
    conv = nn.Conv2d(channels, anchors * (box + 1 + classes), 1)
    nn.init.normal_(conv.weight, std=0.01)
    bias = torch.zeros(anchors, box + 1 + classes)
    if stride is not None:
        bias[:, box] = math.log(8 / (640 / stride) ** 2)
        bias[:, box + 1 :] = math.log(0.6 / (classes - 0.99))
    conv.bias = nn.Parameter(bias.flatten())
    return conv


class _GridPredictor(BaseModule):
    """One 3x3 and one 1x1 convolution per map; subclasses set the type of the outputs.

    Args:
        num_classes: classes C.
        in_channels: channels of each map, in the order of the maps.
        num_anchors: anchors per cell.
        strides: with strides, biases start at the prior of eight objects on a 640 x 640 image, as
            in Scaled-YOLOv4; this stabilises the first iterations. darknet starts at zero.
        norm_cfg: batch norm of the 3x3 convolutions.
        act_cfg: their activation; None for the activation of the paper.

    Raises:
        ValueError: the number of strides is not the number of maps.
    """

    outputs_type: type[tuple]
    act_cfg: dict[str, Any] = LEAKY
    box_values = 4

    def __init__(
        self,
        num_classes: int = 80,
        in_channels: Sequence[int] = (128, 256, 512),
        num_anchors: int = 3,
        strides: Sequence[int] | None = None,
        norm_cfg: dict[str, Any] | None = BATCH_NORM,
        act_cfg: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        starts: list[int | None] = list(strides or [None] * len(in_channels))
        if len(starts) != len(in_channels):
            raise ValueError(
                f'strides has {len(starts)} entries for {len(in_channels)} maps; give one per map.'
            )
        self.num_classes = num_classes
        cfg: dict[str, Any] = dict(norm_cfg=norm_cfg, act_cfg=act_cfg or self.act_cfg)
        cfg['box'] = self.box_values
        self.levels = nn.ModuleList(
            _Level(channels, num_anchors, num_classes, stride, **cfg)
            for channels, stride in zip(in_channels, starts, strict=True)
        )

    def forward(self, feats: tuple[Tensor, ...]) -> tuple:
        maps = (level(x) for level, x in zip(self.levels, feats, strict=True))
        return self.outputs_type(tuple(maps))


@MODELS.register_module()
class YOLOV3Predictor(_GridPredictor):
    """YOLOv3's predictor, for the maps of MMDetection's ``YOLOV3Neck`` in their order.

    Shape:
        feats: (B, in_channels[i], H, W) each, coarse to fine: ``in_channels=(512, 256, 128)``.
        Returns :class:`YOLOV3Outputs`.
    """

    outputs_type = YOLOV3Outputs


@MODELS.register_module()
class YOLOV4Predictor(_GridPredictor):
    """YOLOv4's predictor, for the maps of ``YOLOV4Neck``.

    Shape:
        feats: (B, in_channels[i], H, W) each, fine to coarse. Returns :class:`YOLOV4Outputs`.
    """

    outputs_type = YOLOV4Outputs


@MODELS.register_module()
class ScaledYOLOV4Predictor(_GridPredictor):
    """Scaled-YOLOv4's predictor, for the maps of ``ScaledYOLOV4Neck``.

    Shape:
        feats: (B, in_channels[i], H, W) each, fine to coarse. Returns
        :class:`ScaledYOLOV4Outputs`.
    """

    outputs_type = ScaledYOLOV4Outputs
    act_cfg = MISH


@MODELS.register_module()
class GaussianYOLOPredictor(_GridPredictor):
    """Gaussian YOLOv3's predictor, for the maps of MMDetection's ``YOLOV3Neck``.

    Shape:
        feats: (B, in_channels[i], H, W) each, coarse to fine: ``in_channels=(512, 256, 128)``.
        Returns :class:`GaussianYOLOOutputs`.
    """

    box_values = 8

    def forward(self, feats: tuple[Tensor, ...]) -> GaussianYOLOOutputs:
        maps = [level(x) for level, x in zip(self.levels, feats, strict=True)]
        return gaussian_outputs(maps, self.num_classes)


def gaussian_outputs(maps: Sequence[Tensor], num_classes: int) -> GaussianYOLOOutputs:
    """Maps (B, A * (9 + C), H, W) in darknet's order: x, its sigma, y, its sigma, and so on."""
    parts = [x.unflatten(1, (-1, 9 + num_classes)) for x in maps]
    means = (torch.cat((x[:, :, :8:2], x[:, :, 8:]), 2).flatten(1, 2) for x in parts)
    return GaussianYOLOOutputs(tuple(means), tuple(x[:, :, 1:8:2].flatten(1, 2) for x in parts))


GRID_OUTPUTS: dict[str, type[tuple]] = {
    'yolov2': YOLOV2Outputs,
    'yolov3': YOLOV3Outputs,
    'yolov4': YOLOV4Outputs,
    'gaussian_yolo': GaussianYOLOOutputs,
}


@MODELS.register_module()
class DarknetPredictor(BaseModule):
    """Predictor for ``DarknetFromCfg``, whose last layers already give the outputs.

    Shape:
        feats: the maps of the backbone, (B, A * (5 + C), H, W) each, for 'gaussian_yolo'
        (B, A * (9 + C), H, W) each; for 'yolov1' one vector
        (B, side * side * (C + 5 * num_boxes), 1, 1). Returns the outputs of the detector.

    Args:
        detector: 'yolov1' for a `[detection]` layer, 'yolov2' for `[region]`, 'yolov3' or 'yolov4'
            for `[yolo]`, 'gaussian_yolo' for `[Gaussian_yolo]`.
        num_classes: classes C.
        side, num_boxes: of the `[detection]` layer.

    Raises:
        ValueError: an unknown detector.
    """

    def __init__(
        self,
        detector: str,
        num_classes: int = 80,
        side: int = 7,
        num_boxes: int = 3,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_choice('detector', detector, ('yolov1', *GRID_OUTPUTS))
        self.detector, self.num_classes = detector, num_classes
        self.side, self.num_boxes = side, num_boxes

    def forward(self, feats: tuple[Tensor, ...]) -> tuple:
        """The maps under the names of the detector's outputs."""
        if self.detector == 'yolov1':
            return grid_from_vector(
                feats[0].flatten(1), self.num_classes, self.side, self.num_boxes
            )
        if self.detector == 'gaussian_yolo':
            return gaussian_outputs(feats, self.num_classes)
        return GRID_OUTPUTS[self.detector](tuple(feats))


def grid_from_vector(vector: Tensor, classes: int, side: int, boxes: int) -> YOLOV1Outputs:
    """(B, side * side * (C + 5 * boxes)) in darknet's order to the outputs of YOLOv1."""
    parts = [side * side * size for size in (classes, boxes, 4 * boxes)]
    cls, conf, box = vector.split(parts, dim=1)
    return YOLOV1Outputs(
        cls.reshape(-1, side, side, classes).permute(0, 3, 1, 2),
        conf.reshape(-1, side, side, boxes).permute(0, 3, 1, 2),
        box.reshape(-1, side, side, boxes, 4).permute(0, 3, 4, 1, 2),
    )
