"""Networks built from darknet's cfg files against forward passes of darknet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmdet_losses.detectors.yolo.darknet_cfg import Section, layer_table, parse_cfg
from mmdet_losses.detectors.yolo.darknet_files import layers_in_order
from mmdet_losses.detectors.yolo.grids import cell_offset
from mmdet_losses.detectors.yolo.maps import RawLevel, join_level, split_level
from mmdet_losses.networks import DarknetFromCfg
from tools.parity.models import TOLERANCE, make_inputs, make_weights
from tools.parity.rows import Row

ROOT = Path(__file__).resolve().parents[2]


def darknet_data(path: Path) -> Path:
    """``data/darknet`` above a golden file, or in ``shared`` of the project or beside it.

    Raises:
        FileNotFoundError: there is none.
    """
    above = [*path.resolve().parents, ROOT / 'shared', ROOT.parent / 'shared']
    for folder in above:
        if (folder / 'data' / 'darknet').is_dir():
            return folder / 'data' / 'darknet'
    raise FileNotFoundError(f'There is no data/darknet above {path}; put images and cfgs there.')


def cfg_forward(path: Path) -> list[Row]:
    """Mean and standard deviation of every layer, inputs and outputs of the detection layers.

    The cfg is ``data/darknet/cfg/<name>.cfg``.
    """
    name = path.stem.removeprefix('cfg_forward_')
    cfg = darknet_data(path) / 'cfg' / f'{name}.cfg'
    with np.load(path) as golden:
        height, width = golden['input_hw'].tolist()
        eps = 1e-6 if str(golden['cfg']).startswith('pjreddie') else 1e-5
        sections = parse_cfg(cfg.read_text())
        table = layer_table(sections)
        network = DarknetFromCfg(table, (height, width), norm_cfg=dict(type='BN', eps=eps)).eval()
        meta = dict(
            weights_seed=int(golden['weights_seed']),
            scale=json.loads(str(golden['scale'])),
            input_seed=int(golden['input_seed']),
            inputs={'image': {'shape': (1, 3, height, width)}},
        )
        weights = make_weights(json.loads(str(golden['keys'])), meta)
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
            after = head_output(sections[head + 1], output)
            rows.append(_row(path.stem, f'pre_{head}', output[0], golden[f'pre_{head}']))
            rows.append(_row(path.stem, f'post_{head}', after[0], golden[f'post_{head}']))
        order = sorted(traced)
        got = torch.stack([torch.stack([v.mean(), v.std(correction=0)]) for _, v in
                           sorted(traced.items())])  # fmt: skip
        rows.append(_row(path.stem, 'trace', got, golden['trace'][order]))
    return rows


def head_output(head: Section, level: Tensor) -> Tensor:
    """Output (B, A * (5 + C), H, W) of a [yolo] layer, or of Redmon's [region] layer."""
    region = head.type == 'region'
    count = head.number('num', 1) if region else len(head.text('mask', '0').split(','))
    raw, scale = split_level(level, count), float(head.text('scale_x_y', '1'))
    if head.number('new_coords', 0):  # the convolution before has the sigmoid
        xy = raw.xy * scale - (scale - 1) / 2
        return join_level(raw._replace(xy=xy), tuple(level.shape[2:]))
    cls = raw.cls.softmax(2) if region else raw.cls.sigmoid()
    raw = RawLevel(cell_offset(raw.xy, scale), raw.wh, raw.obj.sigmoid(), cls)
    return join_level(raw, tuple(level.shape[2:]))


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
