"""Forward passes of converted official checkpoints against the official networks' outputs.

A golden folder holds the official key list (``keys.json``), the seeds that make weights and inputs
(``meta.json``), and the official outputs (``io.npz``). The weights are converted like a real
checkpoint: official names, converter, network of a config.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from torch import Tensor, nn

from mmdet_losses.core.checkpoint import Layout, convert, network_of, strip_module
from mmdet_losses.core.types import stacks
from mmdet_losses.detectors.checkpoints import LAYOUTS
from tools.parity.rows import Row

Shapes = Mapping[str, list[int]]
Outputs = dict[str, Tensor]

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
TOLERANCE = 1e-4
"""In standard deviations of the golden tensor, float32: twice the largest difference measured; or
4 times the official code's own float32 noise where that is larger (decoded boxes in pixels)."""


class Network(NamedTuple):
    """How golden folders of one kind become networks of ours."""

    layout: str
    """Name in ``LAYOUTS``."""
    config: str
    """Pattern of the config below ``configs/``; one file matches."""
    changes: Callable[[Shapes, str], dict]
    """Keys and name of the folder -> what differs from the config's ``model``."""
    run: Callable[[nn.Module, Mapping[str, Tensor]], Outputs]
    """Our network and the golden inputs -> outputs under their official names."""

    def model(self, shapes: Shapes, name: str) -> ConfigDict:
        """The model's config for a golden folder."""
        return recipe(self.config, self.changes(shapes, name))


def recipe(pattern: str, changes: dict | None = None) -> ConfigDict:
    """``model`` of the one config of that name, changed by dotted keys below ``model``."""
    (path,) = CONFIGS.glob(pattern)
    cfg = Config.fromfile(path)
    cfg.merge_from_dict({f'model.{key}': value for key, value in (changes or {}).items()})
    return cfg.model


def load(layout: Layout, model: ConfigDict, source: Mapping[str, Tensor] | Path) -> nn.Module:
    """The network of a config with converted weights, in evaluation mode."""
    network = network_of(model).eval()
    if isinstance(source, Path):
        source = layout.load(source, network, model)
    state = convert(source, layout.target(network), layout.key_map(model)).state_dict
    network.load_state_dict(state, assign=True)
    return network


def check_model(folder: Path) -> list[Row] | None:
    """Compare every stored output of a folder; None where no network of ours is meant.

    ``max_rel`` and ``tolerance`` are in standard deviations of the golden tensor.
    """
    folder = Path(folder)
    meta = json.loads((folder / 'meta.json').read_text())
    name = meta.get('network', folder.name)
    network = find(name) or find(folder.name)
    if network is None:
        return None
    keys = json.loads((folder / 'keys.json').read_text())
    config = network.model(strip(keys), name)
    model = load(LAYOUTS[network.layout], config, strip_module(make_weights(keys, meta)))
    with torch.no_grad():
        outputs = network.run(model, make_inputs(meta))
    return compare_outputs(folder, meta, outputs)


def compare_outputs(folder: Path, meta: dict, outputs: Outputs) -> list[Row]:
    """A row per stored output of a folder."""
    with np.load(folder / 'io.npz') as gold:
        return [
            compare(folder.name, key, outputs.get(key), stored, gold)
            for key, stored in meta['outputs'].items()
        ]


def find(name: str) -> Network | None:
    """The entry whose name is the longest prefix of ``name``."""
    matches = [prefix for prefix in NETWORKS if name.startswith(prefix)]
    return NETWORKS[max(matches, key=len)] if matches else None


def strip(keys: Shapes) -> Shapes:
    """Shapes under the names that the rules read."""
    return {key.removeprefix('module.'): shape for key, shape in keys.items()}


def make_weights(keys: Shapes, meta: dict) -> dict[str, Tensor]:
    """Weights that depend on name, shape and seed alone, by the golden data's rule."""
    state = {}
    for name, shape in keys.items():
        array = _parameter(name, tuple(shape), meta['weights_seed'])
        for pattern, factor in meta['scale']:
            if re.search(pattern, name):
                array = array * np.float32(factor)
        state[name] = torch.from_numpy(array)
    return state


def _parameter(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()) + seed))
    if name.endswith('num_batches_tracked'):
        return np.zeros(shape, np.int64)
    if name.endswith('running_var') or (len(shape) == 1 and name.endswith('weight')):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    fan_in = int(np.prod(shape[1:]))
    small = len(shape) <= 1 or name.endswith(('running_mean', 'bias'))
    scale = 0.1 if small else np.sqrt(2 / fan_in)
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def make_inputs(meta: dict) -> dict[str, Tensor]:
    """All inputs from one generator, in the order of ``meta``."""
    rng = np.random.Generator(np.random.PCG64(meta['input_seed']))
    inputs = {}
    for name, stored in meta['inputs'].items():
        shape = stored['shape']
        draw = rng.uniform(0, 1, shape) if name == 'pre_hm' else rng.standard_normal(shape)
        inputs[name] = torch.from_numpy(draw.astype(np.float32))
    return inputs


def compare(
    file: str, quantity: str, output: Tensor | None, stored: dict, gold: Mapping[str, np.ndarray]
) -> Row:
    """One row; an output that is absent or of another shape is an infinite difference."""
    tolerance = max(TOLERANCE, 4 * stored.get('float32_noise', 0))
    if output is None or list(output.shape) != stored['shape']:
        return Row(file, quantity, np.inf, np.inf, tolerance, False, np.inf)
    got = output.double().numpy()
    if stored['stored'] == 'full':
        difference = np.abs(got - gold[quantity]).max()
    else:
        sample = got.ravel()[:: stored['sample_stride']]
        difference = np.abs(sample - gold[f'{quantity}.sample']).max()
    summary = max(abs(got.mean() - stored['mean']), abs(got.std() - stored['std']))
    relative = max(
        difference / stored['std'],
        summary / stored['std'],
        abs(np.abs(got).sum() / stored['abs_sum'] - 1),
    )
    return Row(
        file,
        quantity,
        float(difference),
        float(relative),
        tolerance,
        bool(relative <= tolerance),
        float(relative / tolerance),
    )


def _count(shapes: Shapes, pattern: str) -> int:
    """One more than the largest number that the pattern's group finds."""
    return 1 + max(int(m[1]) for m in (re.match(pattern, key) for key in shapes) if m)


def _stacked(num_stacks: int) -> dict:
    """Changes for a number of stacks; one stack needs the class without an unused residual."""
    changes: dict = {
        'backbone.num_stacks': num_stacks,
        'bbox_head.predictor.num_stacks': num_stacks,
    }
    return changes | ({'backbone.type': 'StackedHourglassNet'} if num_stacks == 1 else {})


def _corner_changes(shapes: Shapes, _: str) -> dict:
    classes = {'bbox_head.predictor.num_classes': shapes['tl_heats.0.1.weight'][0]}
    return classes | _stacked(_count(shapes, r'tl_heats\.(\d+)'))


_CORNER_KEYPOINTS = dict(tl='tl', br='br', ct='center')
_CORNER_MAPS = {'heat': 'heatmap', 'tag': 'embedding', 'off': 'offset'}


def _run_corner(model: nn.Module, inputs: Mapping[str, Tensor]) -> Outputs:
    predictor = model['bbox_head']['predictor']
    predictor.every_stack = True
    found = {}
    for k, stack in enumerate(stacks(predictor(model['backbone'](inputs['image'])))):
        found |= {
            f'{point}_{theirs}_{k}': getattr(getattr(stack, keypoint), ours)
            for point, keypoint in _CORNER_KEYPOINTS.items()
            for theirs, ours in _CORNER_MAPS.items()
            if hasattr(getattr(stack, keypoint, None), ours)
        }
        found |= {f'att_{k}_{i}': each for i, each in enumerate(getattr(stack, 'attentions', ()))}
    return found


_CENTER_FIELDS = {
    'hm': 'heatmap',
    'wh': 'size',
    'reg': 'offset',
    'hps': 'keypoints',
    'hm_hp': 'keypoint_heatmap',
    'hp_offset': 'keypoint_offset',
    'tracking': 'tracking',
    'ltrb_amodal': 'ltrb_amodal',
    'ltrb': 'ltrb',
}


def _center_changes(shapes: Shapes, name: str) -> dict:
    """Numbers of classes, stacks and keypoints, branches and depth, from the keys or the name."""
    stacked = 'hm.0.1.weight' in shapes
    last = '0.1' if stacked else '2'
    head: dict = {'num_classes': shapes[f'hm.{last}.weight'][0]}
    if f'hps.{last}.weight' in shapes:
        head['num_keypoints'] = shapes[f'hps.{last}.weight'][0] // 2
    if 'tracking.2.weight' in shapes:
        head |= {f'with_{name}': f'{name}.2.weight' in shapes for name in ('ltrb_amodal', 'ltrb')}
    changes = {f'bbox_head.predictor.{key}': value for key, value in head.items()}
    if stacked:
        changes |= _stacked(_count(shapes, r'hm\.(\d+)'))
    if depth := re.search(r'resdcn(\d+)', name):
        changes['backbone.depth'] = int(depth[1])
        changes['neck.in_channels'] = 512 if int(depth[1]) < 50 else 2048
    return changes


def _run_center(model: nn.Module, inputs: Mapping[str, Tensor]) -> Outputs:
    found = _center_outputs(model, *inputs.values())
    if 'pre_hm' in inputs:
        image = inputs['image']
        for prefix, arguments in (
            ('first_frame', (image, image, torch.zeros_like(inputs['pre_hm']))),
            ('image_only', (image,)),
        ):
            outputs = _center_outputs(model, *arguments)
            found |= {f'{prefix}.{key}': value for key, value in outputs.items()}
    return found


def _center_outputs(model: nn.Module, *inputs: Tensor) -> Outputs:
    feats = model['backbone'](*inputs)
    outputs = model['bbox_head']['predictor'](model['neck'](feats) if 'neck' in model else feats)
    return {
        f'{theirs}_{k}': getattr(stack, ours)
        for k, stack in enumerate(stacks(outputs))
        for theirs, ours in _CENTER_FIELDS.items()
        if getattr(stack, ours, None) is not None
    }


NETWORKS = {
    **{
        prefix: Network('cornernet', config, _corner_changes, _run_corner)
        for prefix, config in (
            ('cornernet_hg', 'cornernet/cornernet_hg104_8xb6-500k_coco.py'),
            ('cornernet_lite', 'cornernet/cornernet_hg104_8xb6-500k_coco.py'),
            ('cornernet_squeeze', 'cornernet_squeeze/cornernet_squeeze_8xb7-500k_coco.py'),
            ('cornernet_saccade', 'cornernet_saccade/cornernet_saccade_8xb6-500k_coco.py'),
            (
                'centernet_triplet',
                'centernet_triplet/centernet_triplet_hg104_8xb6-480k_coco.py',
            ),
        )
    },
    **{
        prefix: Network(f'centernet_{layout}', config, _center_changes, _run_center)
        for prefix, layout, config in (
            (
                'ctdet_resdcn',
                'resdcn',
                'centernet_points/centernet_points_resdcn18_8xb14-140e_coco.py',
            ),
            ('ctdet_dla', 'dla', 'centernet_points/centernet_points_dla34_8xb16-140e_coco.py'),
            (
                'ctdet_hourglass',
                'hourglass',
                'centernet_points/centernet_points_hg104_8xb3-50e_coco.py',
            ),
            ('multi_pose_dla', 'dla', 'centernet_pose/centernet_pose_dla34_8xb16-320e_coco.py'),
            (
                'multi_pose_hourglass',
                'hourglass',
                'centernet_pose/centernet_pose_hg104_8xb3-50e_coco.py',
            ),
            ('centertrack_dla', 'dla', 'centertrack/centertrack_dla34_2xb16-70e_mot17.py'),
        )
    },
}
"""Prefix of a golden folder's network name -> how to build and run it."""
