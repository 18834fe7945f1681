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
from tools.parity.golden import Case, Check
from tools.parity.models import TOLERANCE, make_inputs, make_weights

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


def cfg_forward(case: Case) -> None:
    """Mean and standard deviation of every layer, inputs and outputs of the detection layers.

    The cfg is ``data/darknet/cfg/<name>.cfg``.
    """
    name = case.file.name.removeprefix('cfg_forward_')
    cfg = darknet_data(case.file.path) / 'cfg' / f'{name}.cfg'
    height, width = case.size('input_hw')
    eps = 1e-6 if str(case['cfg']).startswith('pjreddie') else 1e-5
    sections = parse_cfg(cfg.read_text())
    network = DarknetFromCfg(
        layer_table(sections), (height, width), norm_cfg=dict(type='BN', eps=eps)
    ).eval()
    meta = dict(
        weights_seed=int(case['weights_seed']),
        scale=json.loads(str(case['scale'])),
        input_seed=int(case['input_seed']),
        inputs={'image': {'shape': (1, 3, height, width)}},
    )
    weights = make_weights(json.loads(str(case['keys'])), meta)
    case.compare('floats', sum(value.numel() for value in weights.values()))
    fill(network, list(weights.values()))
    image = make_inputs(meta)['image']
    case.compare('input_first', image.flatten()[:8])
    traced: dict[int, Tensor] = {}
    for index, layer in enumerate(network.layers):
        layer.register_forward_hook(
            lambda module, inputs, output, index=index: traced.update({index: output})
        )
    with torch.no_grad():
        outputs = network(image)
    case.compare('heads', np.array(network.heads))
    for head, output in zip(network.heads, outputs, strict=True):
        # sizes are logits before and after, so both arrays have the tolerance of the logits
        atol = TOLERANCE * float(case[f'pre_{head}'].std())
        case.compare(f'pre_{head}', output[0], atol=atol)
        case.compare(f'post_{head}', head_output(sections[head + 1], output)[0], atol=atol)
    case.skip('the sections of the cfg', 'layer_types')
    spread = np.full(case['trace'].shape, np.nan)
    for index, values in traced.items():
        spread[index] = float(values.mean()), float(values.std(correction=0))
    where = ~np.isnan(spread[:, 0])
    case.compare('trace', spread, where=where, atol=TOLERANCE * case['trace'][where].std())


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


CHECKS: dict[str, Check] = {'cfg_forward': cfg_forward}
