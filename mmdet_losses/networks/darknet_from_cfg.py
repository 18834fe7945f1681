"""Backbone that runs the layers of a darknet cfg from a plain table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.logging import print_log
from torch import Tensor, nn

from mmdet_losses.networks.darknet_layers import BATCH_NORM
from mmdet_losses.networks.freezing import FreezableBackbone
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

HEADS = ('yolo', 'region', 'detection', 'gaussian_yolo')
"""Detection layers; darknet writes the last one `[Gaussian_yolo]`."""


def values_before_classes(kind: str) -> int:
    """Values per anchor before its class scores: box and objectness."""
    return 9 if kind == 'gaussian_yolo' else 5


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
class DarknetFromCfg(FreezableBackbone):
    """The layers of a darknet cfg, without its detection layers.

    Shape:
        x: (B, 3, h, w) with values in [0, 1]. Returns the input of every detection layer (the raw
        outputs of the last convolutions), in the order of the cfg.

    Convention:
        ``layers`` is the table of :func:`~mmdet_losses.detectors.yolo.darknet_cfg.layer_table`: one
        dict per section of the cfg, in its order, with absolute layer indices. Parameters are
        registered in the order of darknet's files.

        With ``num_classes`` a checkpoint for another number of classes loads: every last
        convolution keeps the rows of boxes and objectness from the file, and its class rows keep
        their initial values.

    Args:
        layers: the table.
        size: (h, w) of the images; it matters for `[connected]` and `[local]` layers only.
        in_channels: channels of the image.
        norm_cfg: config of the batch norm. Both programs use ``eps=1e-5`` on a GPU. Redmon's CPU
            program adds 1e-6 to the root instead; ``eps=1e-6`` gives its outputs.
        num_classes: the last convolution of a map has ``anchors * (5 + num_classes)`` channels,
            where `anchors` is in the row of the detection layer; None keeps those of the table.
        frozen_stages: this number of first layers, counted as darknet does, is not trained: no
            gradient, and batch norm uses its running statistics. darknet's ``stopbackward=1`` in
            layer n is ``frozen_stages=n + 1``.

    Raises:
        ValueError: an unknown type of layer or activation, layers whose shapes do not fit, a table
            without a detection layer, or ``num_classes`` without `anchors` in the table.
    """

    def __init__(
        self,
        layers: Sequence[dict[str, Any]],
        size: tuple[int, int] = (416, 416),
        in_channels: int = 3,
        norm_cfg: dict[str, Any] = NORM,
        num_classes: int | None = None,
        frozen_stages: int = 0,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.table = [dict(row) for row in layers]
        self.heads = [i for i, row in enumerate(self.table) if row['type'] in HEADS]
        if not self.heads:
            raise ValueError(f'The table has no detection layer; add one of {", ".join(HEADS)}.')
        self.num_classes = num_classes
        if num_classes is not None:
            self._set_classes(num_classes)
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
            shapes.append(layer_shape(index, row, before, shapes))
        used = {i for row in self.table for i in row.get('layers', ())}
        self.kept = sorted(used)
        self.freeze(frozen_stages)

    def _set_classes(self, num_classes: int) -> None:
        """Give the last convolutions the channels of ``num_classes`` classes."""
        for head in self.heads:
            row, last = self.table[head], self.table[head - 1]
            if 'anchors' not in row or last['type'] != 'convolutional':
                raise ValueError(
                    f'num_classes={num_classes} needs a convolution before layer {head} '
                    f'({row["type"]}) and `anchors` in its row; edit the table instead.'
                )
            last['filters'] = row['anchors'] * (values_before_classes(row['type']) + num_classes)

    def stages_in_order(self) -> list[nn.Module]:
        """The layers."""
        return list(self.layers)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        found = set()
        for head in self.heads if self.num_classes is not None else ():
            name = f'{prefix}layers.{head - 1}.layer.conv'
            found.add(self._keep_class_rows(state, name, self.table[head], head - 1))
        for classes in found - {None}:
            print_log(
                f'The checkpoint has {classes} classes: the last convolutions keep its rows of '
                f'boxes and objectness; the rows of the {self.num_classes} classes keep their '
                'initial values.',
                'current',
            )
        super()._load_from_state_dict(state, prefix, *args)

    def _keep_class_rows(
        self, state: dict[str, Any], name: str, row: dict[str, Any], index: int
    ) -> int | None:
        """Replace class rows of another number of classes in ``state`` by those of this network.

        Returns the number of classes in ``state`` if it differs.
        """
        found = None
        anchors, common = row['anchors'], values_before_classes(row['type'])
        own = self.layers[index].get_submodule('layer.conv').state_dict()
        for part, mine in own.items():
            value = state.get(f'{name}.{part}')
            if value is None or value.shape == mine.shape or value.shape[1:] != mine.shape[1:]:
                continue
            if len(value) % anchors or len(value) <= common * anchors:
                continue
            rows = mine.clone().unflatten(0, (anchors, -1))
            rows[:, :common] = value.unflatten(0, (anchors, -1))[:, :common]
            state[f'{name}.{part}'] = rows.flatten(0, 1)
            found = len(value) // anchors - common
        return found

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
    'shortcut': lambda row, x, inputs: sum((_with_channels(y, x.shape[1]) for y in inputs), x),
    'sam': lambda row, x, inputs: x * inputs[0],
    'scale_channels': lambda row, x, inputs: x * inputs[0],
}
"""Type of a layer that reads earlier layers -> function of its row, its input and those outputs."""


def layer_shape(
    index: int,
    row: dict[str, Any],
    before: tuple[int, int, int],
    shapes: list[tuple[int, int, int]],
) -> tuple[int, int, int]:
    """(channels, h, w) of a layer's output.

    Args:
        index: of the layer.
        row: of the table.
        before: shape of the layer's input.
        shapes: of all layers before this one.

    Raises:
        ValueError: the layers that this one combines do not fit.
    """
    channels, height, width = before
    kind = row['type']
    _check_sizes(index, row, before, shapes)
    if kind == 'route':
        channels = sum(shapes[i][0] // row.get('groups', 1) for i in row['layers'])
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
        size = 1 + (row['size'] - 1) * row.get('dilation', 1)
        padding = row.get('padding', row['size'] // 2) * row.get('dilation', 1)
        total = row['padding'] if kind == 'maxpool' else 2 * padding
        sides = ((side + total - size) // row.get('stride', 1) + 1 for side in before[1:])
        return row.get('filters', channels), *sides
    return row.get('filters', channels), height, width


def _check_sizes(
    index: int,
    row: dict[str, Any],
    before: tuple[int, int, int],
    shapes: list[tuple[int, int, int]],
) -> None:
    """Raise ``ValueError`` unless the layers that a layer combines have fitting shapes."""
    kind = row['type']
    found = [shapes[i] for i in row.get('layers', ())]
    if kind in ('shortcut', 'sam'):
        found.append(before)
    sizes = {shape[1:] for shape in found}
    channels = {shape[0] for shape in found} if kind == 'sam' else set()
    if kind == 'scale_channels':
        channels = {before[0], found[0][0]}
        sizes = {(1, 1), before[1:]}
    if len(sizes) > 1 or len(channels) > 1:
        raise ValueError(
            f'layer {index} ({kind}) combines outputs of (channels, h, w) '
            f'{", ".join(map(str, [*found, before] if kind == "scale_channels" else found))}; they '
            'do not fit, choose other layers.'
        )
