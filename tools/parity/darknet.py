"""Networks built from darknet's cfg files against forward passes of darknet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmdet_losses.detectors.yolo.darknet_cfg import layer_table, parse_cfg
from mmdet_losses.detectors.yolo.darknet_files import layers_in_order
from mmdet_losses.networks import DarknetFromCfg
from tools.parity.models import TOLERANCE, make_inputs, make_weights
from tools.parity.rows import Row


def cfg_forward(path: Path) -> list[Row]:
    """Mean and standard deviation of every layer, and the inputs of the detection layers.

    The cfg is ``data/darknet/cfg/<name>.cfg`` beside the golden folder. ``post_*`` is not compared:
    it is the output of the detection layers, which the decoders' checks cover.
    """
    name = path.stem.removeprefix('cfg_forward_')
    cfg = path.resolve().parents[2] / 'data' / 'darknet' / 'cfg' / f'{name}.cfg'
    with np.load(path) as golden:
        height, width = golden['input_hw'].tolist()
        network = DarknetFromCfg(layer_table(parse_cfg(cfg.read_text())), (height, width)).eval()
        meta = dict(
            weights_seed=int(golden['weights_seed']),
            scale=json.loads(str(golden['scale'])),
            input_seed=int(golden['input_seed']),
            inputs={'image': {'shape': (1, 3, height, width)}},
        )
        weights = make_weights(json.loads(str(golden['keys'])), meta)
        if str(golden['cfg']).startswith('pjreddie'):
            weights = {key: _redmon_variance(key, value) for key, value in weights.items()}
        fill(network, list(weights.values()))
        image = make_inputs(meta)['image']
        rows = [_row(path.stem, 'input_first', image.flatten()[:8], golden['input_first'])]
        traced: dict[int, Tensor] = {}
        for index, layer in enumerate(network.layers):
            layer.register_forward_hook(
                lambda module, inputs, output, index=index: traced.update({index: output})
            )
        with torch.no_grad():
            outputs = network(image)
        for head, output in zip(network.heads, outputs, strict=True):
            rows.append(_row(path.stem, f'pre_{head}', output[0], golden[f'pre_{head}']))
        order = sorted(traced)
        got = torch.stack([torch.stack([v.mean(), v.std(correction=0)]) for _, v in
                           sorted(traced.items())])  # fmt: skip
        rows.append(_row(path.stem, 'trace', got, golden['trace'][order]))
    return rows


def _redmon_variance(key: str, value: Tensor) -> Tensor:
    """The variance v for which sqrt(v + 1e-5) equals Redmon's CPU code, sqrt(value) + 1e-6."""
    if not key.endswith('running_var'):
        return value
    return ((value.double().sqrt() + 1e-6).square() - 1e-5).float()


def fill(network: DarknetFromCfg, values: list[Tensor]) -> None:
    """Copy tensors, in the order of darknet's files, into a network."""
    holder = torch.nn.ModuleDict({'backbone': network})
    keys = [key for layer in layers_in_order(holder, ('backbone',)) for key in layer.keys]
    state = holder.state_dict()
    with torch.no_grad():
        for key, value in zip(keys, values, strict=True):
            state[key].copy_(value.reshape(state[key].shape))


def _row(file: str, quantity: str, got: Tensor, want: np.ndarray) -> Row:
    """A row whose tolerance is in standard deviations of the golden array."""
    if tuple(got.shape) != want.shape:
        return Row(file, f'{quantity}: {tuple(got.shape)}', np.inf, np.inf, TOLERANCE, False)
    worst = float(np.abs(got.double().numpy() - want).max())
    relative = worst / float(want.std())
    return Row(file, quantity, worst, relative, TOLERANCE, relative <= TOLERANCE)


CHECKS = {'cfg_forward': cfg_forward}
