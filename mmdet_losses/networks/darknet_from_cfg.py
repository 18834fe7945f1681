"""Backbone that runs the layers of a darknet cfg from a plain table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet_losses.networks.darknet_layers import BATCH_NORM
from mmdet_losses.networks.locally_connected import LocallyConnected2d
from mmdet_losses.networks.yolov2_neck import darknet_reorg
from mmdet_losses.ops import check_choice
from mmdet_losses.registry import MODELS

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    'linear': nn.Identity,
    'leaky': lambda: nn.LeakyReLU(0.1),
    'relu': nn.ReLU,
    'relu6': nn.ReLU6,
    'logistic': nn.Sigmoid,
    'tanh': nn.Tanh,
    'elu': nn.ELU,
    'selu': nn.SELU,
    'mish': nn.Mish,
    'swish': nn.SiLU,
    'gelu': lambda: nn.GELU('tanh'),
}
"""Darknet's name of an activation -> its module."""

HEADS = ('yolo', 'region', 'detection')
NORM = {**BATCH_NORM, 'momentum': 0.01}
"""Darknet's batch norm."""


class _Darknet2d(nn.Module):
    """A layer with parameters and its activation."""

    def __init__(self, layer: nn.Module, activation: str) -> None:
        super().__init__()
        check_choice('activation', activation, ACTIVATIONS)
        self.layer, self.act = layer, ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.layer(x))


class DarknetMaxPool(nn.Module):
    """Darknet's max pool: ``padding`` is the total of both sides, the smaller half first.

    Shape:
        x: (B, C, H, W). Returns (B, C, (H + padding - size) // stride + 1, ...).
    """

    def __init__(self, size: int, stride: int, padding: int) -> None:
        super().__init__()
        self.size, self.stride = size, stride
        before = padding // 2
        self.pad = (before, padding - before) * 2

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.pad(x, self.pad, value=float('-inf')), self.size, self.stride)


@MODELS.register_module()
class DarknetFromCfg(BaseModule):
    """The layers of a darknet cfg, without its detection layers.

    Shape:
        x: (B, 3, h, w) with values in [0, 1]. Returns the input of every detection layer (the raw
        outputs of the last convolutions), in the order of the cfg.

    Convention:
        ``layers`` is the table of :func:`~mmdet_losses.detectors.yolo.darknet_cfg.layer_table`: one
        dict per section of the cfg, in its order, with absolute layer indices. Parameters are
        registered in the order of darknet's files.

    Args:
        layers: the table.
        size: (h, w) of the images; it matters for `[connected]` and `[local]` layers only.
        in_channels: channels of the image.
        norm_cfg: config of the batch norm. Both programs use ``eps=1e-5`` on a GPU. Redmon's CPU
            program adds 1e-6 to the root instead; ``eps=1e-6`` gives its outputs.

    Raises:
        ValueError: an unknown type of layer or activation, or a table without a detection layer.
    """

    def __init__(
        self,
        layers: Sequence[dict[str, Any]],
        size: tuple[int, int] = (416, 416),
        in_channels: int = 3,
        norm_cfg: dict[str, Any] = NORM,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.table = [dict(row) for row in layers]
        self.heads = [i for i, row in enumerate(self.table) if row['type'] in HEADS]
        if not self.heads:
            raise ValueError(f'The table has no detection layer; add one of {", ".join(HEADS)}.')
        self.layers = nn.ModuleList()
        shapes: list[tuple[int, int, int]] = []
        for index, row in enumerate(self.table):
            before = shapes[-1] if shapes else (in_channels, *size)
            check_choice('type', row['type'], (*_BUILD, *_COMBINE, *HEADS))
            if row['type'] in _BUILD:
                module = _BUILD[row['type']]({**row, 'norm_cfg': norm_cfg}, before)
            else:
                module = ACTIVATIONS[row.get('activation', 'linear')]()
            self.layers.append(module)
            shapes.append(_shape(index, row, before, shapes))
        used = {i for row in self.table for i in row.get('layers', ())}
        self.kept = sorted(used)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images (B, 3, h, w) to the inputs of the detection layers, in the order of the cfg."""
        outputs: dict[int, Tensor] = {}
        found = []
        for index, (row, layer) in enumerate(zip(self.table, self.layers, strict=True)):
            if row['type'] in HEADS:
                found.append(x)
            elif row['type'] in _COMBINE:
                x = layer(_COMBINE[row['type']](row, x, [outputs[i] for i in row['layers']]))
            else:
                x = layer(x)
            if index in self.kept:
                outputs[index] = x
        return tuple(found)


def _convolutional(row: dict[str, Any], shape: tuple[int, int, int]) -> nn.Module:
    size, dilation = row['size'], row.get('dilation', 1)
    conv = ConvModule(
        shape[0],
        row['filters'],
        size,
        stride=row.get('stride', 1),
        padding=row.get('padding', size // 2) * dilation,
        dilation=dilation,
        groups=row.get('groups', 1),
        norm_cfg=row['norm_cfg'] if row.get('batch_normalize') else None,
        act_cfg=None,
    )
    return _Darknet2d(conv, row['activation'])


def _connected(row: dict[str, Any], shape: tuple[int, int, int]) -> nn.Module:
    layer = nn.Linear(shape[0] * shape[1] * shape[2], row['output'])
    return nn.Sequential(
        nn.Flatten(), _Darknet2d(layer, row['activation']), nn.Unflatten(1, (-1, 1, 1))
    )


def _local(row: dict[str, Any], shape: tuple[int, int, int]) -> nn.Module:
    layer = LocallyConnected2d(shape[0], row['filters'], shape[1:], row['size'])
    return _Darknet2d(layer, row['activation'])


class _Reorg(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return darknet_reorg(x)


_BUILD: dict[str, Callable[[dict[str, Any], tuple[int, int, int]], nn.Module]] = {
    'convolutional': _convolutional,
    'connected': _connected,
    'local': _local,
    'maxpool': lambda row, shape: DarknetMaxPool(row['size'], row['stride'], row['padding']),
    'avgpool': lambda row, shape: nn.AdaptiveAvgPool2d(1),
    'dropout': lambda row, shape: nn.Dropout(row['probability']),
    'upsample': lambda row, shape: nn.Upsample(scale_factor=row['stride']),
    'reorg': lambda row, shape: _Reorg(),
}
"""Type of a layer with one input -> function of its row and the shape of its input."""


def _route(row: dict[str, Any], x: Tensor, inputs: list[Tensor]) -> Tensor:
    groups = row.get('groups', 1)
    if groups > 1:
        inputs = [each.chunk(groups, 1)[row.get('group_id', 0)] for each in inputs]
    return torch.cat(inputs, 1) if len(inputs) > 1 else inputs[0]


def _with_channels(x: Tensor, channels: int) -> Tensor:
    """The first ``channels`` channels; zeros for missing ones, as in darknet's shortcut."""
    return F.pad(x[:, :channels], (0, 0, 0, 0, 0, max(0, channels - x.shape[1])))


_COMBINE: dict[str, Callable[[dict[str, Any], Tensor, list[Tensor]], Tensor]] = {
    'route': _route,
    'shortcut': lambda row, x, inputs: x + _with_channels(inputs[0], x.shape[1]),
    'sam': lambda row, x, inputs: x * inputs[0],
    'scale_channels': lambda row, x, inputs: x * inputs[0],
}
"""Type of a layer that reads earlier layers -> function of its row, its input and those outputs."""


def _shape(
    index: int,
    row: dict[str, Any],
    before: tuple[int, int, int],
    shapes: list[tuple[int, int, int]],
) -> tuple[int, int, int]:
    """(channels, h, w) of a layer's output."""
    channels, height, width = before
    kind = row['type']
    if kind == 'route':
        channels = sum(shapes[i][0] for i in row['layers']) // row.get('groups', 1)
        return channels, *shapes[row['layers'][0]][1:]
    if kind == 'scale_channels':
        return shapes[row['layers'][0]]
    if kind in ('connected', 'avgpool'):
        return row.get('output', channels), 1, 1
    if kind == 'upsample':
        return channels, height * row['stride'], width * row['stride']
    if kind == 'reorg':
        return channels * 4, height // 2, width // 2
    if kind in ('convolutional', 'maxpool'):
        padding = row['padding'] if kind == 'maxpool' else 2 * row.get('padding', row['size'] // 2)
        sides = ((side + padding - row['size']) // row.get('stride', 1) + 1 for side in before[1:])
        return row.get('filters', channels), *sides
    return row.get('filters', channels), height, width
