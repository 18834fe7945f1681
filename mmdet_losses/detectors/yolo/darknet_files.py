"""Darknet's `.weights` files: numbers in the order of the layers, without names.

The network alone defines the meaning of each number. ``layers_in_order`` lists our layers in the
order of the file, and a file must end where that list ends.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet_losses.compat.checkpoints import check_finite

# Number of floats in the official files, to name the one that was given by mistake.
OFFICIAL_FLOATS = {
    'yolov1': 197_328_243,
    'yolov2': 50_983_561,
    'yolov2-voc': 50_676_061,
    'yolov2-tiny': 11_237_145,
    'yolov2-tiny-voc': 15_867_885,
    'yolov3': 62_001_757,
    'yolov3-spp': 63_052_381,
    'yolov3-tiny': 8_858_734,
    'yolov3-tiny-3l': 9_220_333,
    'yolov3-tiny-prn': 4_939_758,
    'yolov4': 64_429_405,
    'yolov4-tiny': 6_062_814,
    'yolov4-tiny-3l': 6_334_045,
    'yolov4-csp': 52_986_205,
    'yolov4x-mish': 99_847_037,
    'yolov4-p5': 70_917_468,
    'yolov4-p6': 127_717_040,
}


class WeightsFileError(ValueError):
    """A `.weights` file does not fit a network; the message names the layer."""


class Header(NamedTuple):
    """The first bytes of a `.weights` file."""

    major: int
    minor: int
    revision: int
    seen: int
    """Number of training images so far."""
    size: int
    """Bytes: 20, or 16 before version 0.2."""

    @property
    def transposed(self) -> bool:
        """Whether matrices of connected layers are stored (inputs, outputs)."""
        return self.major > 1000 or self.minor > 1000


class Layer(NamedTuple):
    """One layer with numbers: its path in the network and its state dict keys in file order."""

    name: str
    keys: tuple[str, ...]
    module: nn.Module

    def describe(self, shapes: dict[str, torch.Size]) -> str:
        """Path, kind and shape, for error messages."""
        norm = ' with batch norm' if len(self.keys) == 5 else ''
        return f'`{self.name}` ({"x".join(map(str, shapes[self.keys[-1]]))}{norm})'


def read_header(path: Path | str) -> Header:
    """The version fields and the number of training images (32 or 64 bits, by the version).

    Raises:
        FileNotFoundError: there is no such file.
        WeightsFileError: the file is shorter than a header, or the version is negative.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'There is no weights file at {path}; check the path.')
    with path.open('rb') as file:
        data = file.read(20)
    if len(data) < 16:
        raise WeightsFileError(
            f'{path.name} has {len(data)} bytes, less than the 16 of a darknet header; '
            'download it again.'
        )
    if all(32 <= byte < 127 or byte in b'\t\r\n' for byte in data[:16]):
        begin = data[:16].decode('ascii').split()[:1]
        raise WeightsFileError(
            f'{path.name} is a text file that begins with {"".join(begin)!r}, not a weights file; '
            'give the .weights file (a cfg is for tools/import_darknet.py).'
        )
    major, minor, revision = struct.unpack('<3i', data[:12])
    if min(major, minor, revision) < 0:
        raise WeightsFileError(
            f'{path.name} starts with version {major}.{minor}.{revision}, so it is not a darknet '
            'weights file; check what was downloaded.'
        )
    if major * 10 + minor < 2:
        return Header(major, minor, revision, *struct.unpack('<I', data[12:16]), 16)
    if len(data) < 20:
        raise WeightsFileError(
            f'{path.name} has {len(data)} bytes, less than the 20 of a darknet header of version '
            f'{major}.{minor}; download it again.'
        )
    return Header(major, minor, revision, *struct.unpack('<Q', data[12:20]), 20)


def layers_in_order(network: nn.Module, order: Sequence[str]) -> list[Layer]:
    """The layers of ``network`` in file order.

    Args:
        network: a detector, or a container with the same children.
        order: paths of sub-modules; within each, the order of registration is the file's.

    Raises:
        ValueError: a path is missing, or the order misses or repeats a layer of the network.
    """
    layers: list[Layer] = []
    for prefix in order:
        try:
            module = network.get_submodule(prefix)
        except AttributeError as error:
            raise ValueError(
                f'The network has no `{prefix}`, which the table puts at layer {len(layers)}; '
                'use the table of this network.'
            ) from error
        layers += _walk(prefix, module)
    claimed = [layer.name for layer in layers]
    parts = [part for part in ('backbone', 'neck', 'bbox_head.predictor') if _has(network, part)]
    present = {layer.name for part in parts for layer in _walk(part, network.get_submodule(part))}
    wrong = sorted(present.symmetric_difference(claimed)) or sorted(
        name for name in present if claimed.count(name) > 1
    )
    if wrong:
        raise ValueError(
            f'The table of file order does not name {wrong[0]} exactly once (and {len(wrong) - 1} '
            'more); use the table of this network.'
        )
    return layers


def _has(network: nn.Module, path: str) -> bool:
    try:
        network.get_submodule(path)
    except AttributeError:
        return False
    return True


def _walk(name: str, module: nn.Module) -> list[Layer]:
    if isinstance(module, ConvModule):
        if module.with_norm:
            norm = f'{name}.{module.norm_name}'
            parts = ('bias', 'weight', 'running_mean', 'running_var')
            keys = (*(f'{norm}.{part}' for part in parts), f'{name}.conv.weight')
        else:
            keys = (f'{name}.conv.bias', f'{name}.conv.weight')
        return [Layer(name, keys, module.conv)]
    if next(module.parameters(recurse=False), None) is not None:
        return [Layer(name, (f'{name}.bias', f'{name}.weight'), module)]
    return [
        layer
        for child_name, child in module.named_children()
        for layer in _walk(f'{name}.{child_name}', child)
    ]


def read_darknet_weights(
    path: Path | str, network: nn.Module, order: Sequence[str], partial: bool = False
) -> dict[str, Tensor]:
    """The file's numbers under the names of ``network``.

    Args:
        path: a `.weights` file, or a `.conv.N` file of its first layers with ``partial``.
        network: gives names and shapes; it is not changed.
        order: as in :func:`layers_in_order`.
        partial: the file may end after any complete layer.

    Returns:
        A state dict in file order; with ``partial`` it may lack the last layers.

    Raises:
        WeightsFileError: too short, too long, not a darknet file, or a negative variance.
        ValueError: values are NaN or infinite.
        FileNotFoundError: there is no such file.
    """
    path, header = Path(path), read_header(path)
    layers = layers_in_order(network, order)
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    payload = path.stat().st_size - header.size
    numbers = np.memmap(path, '<f4', 'r', header.size, (payload // 4,)) if payload >= 4 else []
    _check_length(path, header, payload, layers, shapes, partial)
    state: dict[str, Tensor] = {}
    start = 0
    for layer in layers:
        if start == len(numbers):
            break
        for key in layer.keys:
            stop = start + shapes[key].numel()
            state[key] = _tensor(numbers[start:stop], shapes[key], layer, header)
            start = stop
        _check_variance(path, layer, state)
    check_finite(state, path)
    return state


def _tensor(numbers: np.ndarray, shape: torch.Size, layer: Layer, header: Header) -> Tensor:
    tensor = torch.from_numpy(np.array(numbers, dtype=np.float32))
    if header.transposed and isinstance(layer.module, nn.Linear) and len(shape) == 2:
        return tensor.reshape(shape[1], shape[0]).t().contiguous()
    return tensor.reshape(shape)


def _check_length(
    path: Path,
    header: Header,
    payload: int,
    layers: list[Layer],
    shapes: dict[str, torch.Size],
    partial: bool,
) -> None:
    ends = np.cumsum([sum(shapes[key].numel() for key in layer.keys) for layer in layers])
    have, need = payload // 4, int(ends[-1])
    if payload == 4 * need or (partial and payload % 4 == 0 and have in ends):
        return
    hint = _hint(payload)
    if have < need:
        index = int(np.searchsorted(ends, have, side='right'))
        where = f'it ends at layer {index + 1} of {len(layers)}, {layers[index].describe(shapes)}'
        if payload % 4 == 0 and have in ends:
            hint += ', or take these first layers alone (convert_checkpoint.py --partial)'
    else:
        extra = payload - 4 * need
        where = f'{extra} bytes follow the last layer, {layers[-1].describe(shapes)}'
    raise WeightsFileError(
        f'{path.name} has {have} floats ({payload + header.size} bytes) where the network needs '
        f'{need} ({4 * need + header.size} bytes): {where}; {hint}.'
    )


def _hint(payload: int) -> str:
    """Advice for a file of a wrong length, from its number of bytes after the header."""
    known = [name for name, floats in OFFICIAL_FLOATS.items() if 4 * floats == payload]
    if not known:
        return 'download it again or choose the network (and number of classes) it was made for'
    return (
        f'it has the size of {known[0]}.weights; choose a config of that network, or import '
        f'{known[0]}.cfg with it (tools/import_darknet.py)'
    )


def _check_variance(path: Path, layer: Layer, state: dict[str, Tensor]) -> None:
    for key in layer.keys:
        if key.endswith('running_var') and bool((state[key] < 0).any()):
            raise WeightsFileError(
                f'{path.name} gives `{layer.name}` a variance below zero, so its numbers are in '
                'another order; choose the network it was made for.'
            )


def write_darknet_weights(
    path: Path | str, network: nn.Module, order: Sequence[str], seen: int = 0
) -> None:
    """Write ``network`` as a `.weights` file of version 0.2.5, which darknet reads back.

    Args:
        path: the file to write.
        network: the detector.
        order: as in :func:`layers_in_order`.
        seen: training images so far.
    """
    state = network.state_dict()
    with Path(path).open('wb') as file:
        file.write(struct.pack('<3iQ', 0, 2, 5, seen))
        for layer in layers_in_order(network, order):
            for key in layer.keys:
                file.write(state[key].detach().cpu().contiguous().numpy().astype('<f4').tobytes())
