"""Forward passes of converted official checkpoints against the official networks' outputs.

A golden folder holds the official key list (``keys.json``), the seeds that make weights and inputs
(``meta.json``), and the official outputs (``io.npz``). The weights are converted like a published
file: official names go through the converter; a `.weights` file of darknet is written and read.
"""

from __future__ import annotations

import json
import re
import struct
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from torch import Tensor, nn

from mmdet_losses.core.checkpoint import Layout, convert, network_of, strip_module
from mmdet_losses.core.types import stacks
from mmdet_losses.detectors.anchor.checkpoints import background_last
from mmdet_losses.detectors.checkpoints import LAYOUTS
from mmdet_losses.detectors.yolo.checkpoints import split_scaled_yolov4
from mmdet_losses.detectors.yolo.maps import split_level
from mmdet_losses.ops import box_center, box_size
from mmdet_losses.registry import TASK_UTILS
from tools.parity.anchor import official_priors
from tools.parity.center_common import BRANCHES
from tools.parity.rows import Row, failed, failure
from tools.parity.yolo import layer_output

Shapes = Mapping[str, list[int]]
Outputs = dict[str, Tensor]
Source = Mapping[str, Tensor] | Path

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
TOLERANCE = 1e-4
"""In standard deviations of the golden tensor, float32: twice the largest difference measured; or
4 times the official code's own float32 noise where that is larger (decoded boxes in pixels)."""


class Network(NamedTuple):
    """How golden folders of one kind become networks of ours."""

    layout: str
    """Name in ``LAYOUTS``."""
    config: str | Callable[[Shapes, str], str]
    """Pattern of the config below ``configs/``; one file matches. Or a function that returns it."""
    changes: Callable[[Shapes, str, ConfigDict], dict]
    """Keys and name of the folder, and the config's ``model`` -> what differs from it."""
    run: Callable[[nn.Module, ConfigDict, Mapping[str, Tensor], Sequence[str]], Outputs]
    """Network, its config, inputs and names of the outputs -> outputs under official names."""

    def model(self, shapes: Shapes, name: str) -> ConfigDict:
        """The model's config for a golden folder."""
        pattern = self.config if isinstance(self.config, str) else self.config(shapes, name)
        return recipe(pattern, self.changes(shapes, name, recipe(pattern)))


def recipe(pattern: str, changes: dict | None = None) -> ConfigDict:
    """``model`` of the one config of that name, changed by dotted keys below ``model``."""
    (path,) = CONFIGS.glob(pattern)
    cfg = Config.fromfile(path)
    cfg.merge_from_dict({f'model.{key}': value for key, value in (changes or {}).items()})
    return cfg.model


def load(layout: Layout, model: ConfigDict, source: Source) -> nn.Module:
    """The network of a config with converted weights, in evaluation mode."""
    network = network_of(model).eval()
    if isinstance(source, Path):
        source = layout.load(source, network, model)
    state = convert(source, layout.target(network), layout.key_map(model)).state_dict
    network.load_state_dict(state, assign=True)
    return network


def forward(model: nn.Module, *inputs: Tensor) -> tuple:
    """Backbone, neck where there is one, predictor."""
    feats = model['backbone'](*inputs)
    return model['bbox_head']['predictor'](model['neck'](feats) if 'neck' in model else feats)


def check_model(folder: Path) -> list[Row] | None:
    """Compare every stored output of a folder; None where no network of ours is meant.

    ``max_rel`` and ``tolerance`` are in standard deviations of the golden tensor.
    """
    folder = Path(folder)
    meta = json.loads((folder / 'meta.json').read_text())
    keys = json.loads((folder / 'keys.json').read_text())
    name = meta.get('network', folder.name)
    network = find(name) or find(folder.name)
    if network is None:
        return None
    with np.load(folder / 'io.npz') as file:
        gold = {key: file[key] for key in file.files}
    try:
        config = network.model(strip(keys), name)
        with tempfile.TemporaryDirectory() as work_dir:
            weights = make_weights(keys, meta)
            source = official_source(network.layout, weights, meta, Path(work_dir))
            model = load(LAYOUTS[network.layout], config, source)
        with torch.no_grad():
            outputs = network.run(model, config, make_inputs(meta), list(meta['outputs']))
    except Exception as error:
        return [failure(folder.name, error, key) for key in meta['outputs']]
    unused = [key for key in gold if key.removesuffix('.sample') not in meta['outputs']]
    return [failed(folder.name, f'{key}: not checked') for key in unused] + [
        compare(folder.name, key, outputs.get(key), stored, gold)
        for key, stored in meta['outputs'].items()
    ]


def find(name: str) -> Network | None:
    """The entry whose pattern fits a name."""
    return next((entry for pattern, entry in NETWORKS.items() if fnmatch(name, pattern)), None)


def strip(keys: Shapes) -> Shapes:
    """Shapes under the names that the rules read."""
    return {key.removeprefix('module.'): shape for key, shape in keys.items()}


def official_source(layout: str, weights: dict[str, Tensor], meta: dict, folder: Path) -> Source:
    """Weights as the reader of a layout's files returns them, or a file of darknet."""
    if layout == 'darknet':
        header = [meta['header'][key] for key in ('major', 'minor', 'revision', 'seen')]
        kind = '<3iQ' if meta['header']['bytes'] == 20 else '<3iI'
        values = [value.numpy().astype('<f4').tobytes() for value in weights.values()]
        path = folder / 'golden.weights'
        path.write_bytes(struct.pack(kind, *header) + b''.join(values))
        return path
    readers = {'ssd_pytorch': background_last, 'scaled_yolov4': split_scaled_yolov4}
    return strip_module(readers[layout](weights) if layout in readers else weights)


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
    """One row; an array that is absent, of another shape or NaN fails."""
    full = stored['stored'] == 'full'
    want = gold.get(quantity if full else f'{quantity}.sample')
    if want is None or output is None or list(output.shape) != stored['shape']:
        return failed(file, f'{quantity}: absent, or of another shape')
    got = output.double().numpy()
    own = got if full else got.ravel()[:: stored['sample_stride']]
    if own.shape != want.shape or not want.size:
        return failed(file, f'{quantity}: golden array of the shape {want.shape}')
    tolerance = max(TOLERANCE, 4 * stored.get('float32_noise', 0))
    difference = float(np.abs(own - want).max())
    spreads = got.mean() - stored['mean'], got.std() - stored['std']
    total = abs(np.abs(got).sum() / stored['abs_sum'] - 1)
    relative = float(np.max([np.max([difference, *np.abs(spreads)]) / stored['std'], total]))
    used = relative / tolerance
    return Row(file, quantity, difference, relative, tolerance, used <= 1, used)


# ----------------------------------------------------------------- the corner and centre families


def _stacked(shapes: Shapes, branch: str) -> dict:
    """Changes for a number of stacks; one stack needs the class without an unused residual."""
    found = (re.match(rf'{branch}\.(\d+)', key) for key in shapes)
    number = 1 + max(int(match[1]) for match in found if match)
    changes: dict = dict.fromkeys(('backbone.num_stacks', 'bbox_head.predictor.num_stacks'), number)
    return changes | ({'backbone.type': 'StackedHourglassNet'} if number == 1 else {})


def _corner_changes(shapes: Shapes, *_: object) -> dict:
    classes = {'bbox_head.predictor.num_classes': shapes['tl_heats.0.1.weight'][0]}
    return classes | _stacked(shapes, 'tl_heats')


_CORNER_KEYPOINTS = dict(tl='tl', br='br', ct='center')
_CORNER_MAPS = {'heat': 'heatmap', 'tag': 'embedding', 'off': 'offset'}


def _run_corner(model: nn.Module, _: ConfigDict, inputs: Mapping[str, Tensor], *__: object) -> dict:
    model['bbox_head']['predictor'].every_stack = True
    found = {}
    for k, stack in enumerate(stacks(forward(model, inputs['image']))):
        found |= {
            f'{point}_{theirs}_{k}': getattr(getattr(stack, keypoint), ours)
            for point, keypoint in _CORNER_KEYPOINTS.items()
            for theirs, ours in _CORNER_MAPS.items()
            if hasattr(getattr(stack, keypoint, None), ours)
        }
        found |= {f'att_{k}_{i}': each for i, each in enumerate(getattr(stack, 'attentions', ()))}
    return found


def _center_changes(shapes: Shapes, name: str, _: ConfigDict) -> dict:
    """Numbers of classes, stacks and keypoints, branches and depth, from the keys or the name."""
    last = '0.1' if 'hm.0.1.weight' in shapes else '2'
    head: dict = {'num_classes': shapes[f'hm.{last}.weight'][0]}
    if f'hps.{last}.weight' in shapes:
        head['num_keypoints'] = shapes[f'hps.{last}.weight'][0] // 2
    if 'tracking.2.weight' in shapes:
        head |= {f'with_{name}': f'{name}.2.weight' in shapes for name in ('ltrb_amodal', 'ltrb')}
    changes = {f'bbox_head.predictor.{key}': value for key, value in head.items()}
    if last == '0.1':
        changes |= _stacked(shapes, 'hm')
    if depth := re.search(r'resdcn(\d+)', name):
        channels = 512 if int(depth[1]) < 50 else 2048
        changes |= {'backbone.depth': int(depth[1]), 'neck.in_channels': channels}
    return changes


def _run_center(model: nn.Module, _: ConfigDict, inputs: Mapping[str, Tensor], *__: object) -> dict:
    runs = {'': tuple(inputs.values())}
    if 'pre_hm' in inputs:
        image = inputs['image']
        runs['first_frame.'] = (image, image, torch.zeros_like(inputs['pre_hm']))
        runs['image_only.'] = (image,)
    return {
        f'{prefix}{theirs}_{k}': getattr(stack, ours)
        for prefix, arguments in runs.items()
        for k, stack in enumerate(stacks(forward(model, *arguments)))
        for theirs, ours in BRANCHES.items()
        if getattr(stack, ours, None) is not None
    }


# ---------------------------------------------------------------------- SSD and the YOLO detectors


def _encoder(config: ConfigDict) -> object:
    return TASK_UTILS.build(config.bbox_head.encoder)


def ssd_pattern(size: int, data: str) -> str:
    """The config of ssd.pytorch's network; SSD300 on VOC also has a recipe of Caffe's."""
    return f'ssd/ssd{size}_vgg16{"" if size == 300 else "*"}_*_{data}.py'


def _ssd_config(shapes: Shapes, name: str) -> str:
    coco = shapes['conf.0.weight'][0] // 4 == 81
    return ssd_pattern(int(re.match(r'ssd(\d+)', name)[1]), 'coco' if coco else 'voc0712')


def _class_changes(shapes: Shapes, name: str, model: ConfigDict) -> dict:
    """The number of classes, from the last layer of the network."""
    last, parts, more = shapes[next(reversed(shapes))][0], ('predictor', 'encoder'), {}
    if name.startswith('ssd'):
        number = shapes['conf.0.weight'][0] // 4 - 1
    elif name == 'yolov1':
        number, parts = last // 49 - 15, ('predictor',)
        biases = (shape for key, shape in shapes.items() if re.fullmatch(r'local\d+\.bias', key))
        more = {'bbox_head.predictor.feat_size': tuple(next(biases)[1:])}
    else:
        number = last // len(_encoder(model).anchors[-1]) - 5
    return {f'bbox_head.{part}.num_classes': number for part in parts} | more


def _run_ssd(
    model: nn.Module, config: ConfigDict, inputs: Mapping[str, Tensor], _: Sequence[str]
) -> Outputs:
    """Outputs of every input; those of an input ``image<suffix>`` have its suffix, too."""
    found: Outputs = {}
    for name, image in inputs.items():
        outputs = forward(model, image)
        cls, loc = (
            torch.cat([each.permute(0, 2, 3, 1).reshape(len(image), -1, width) for each in maps], 1)
            for maps, width in (
                (outputs.cls, config.bbox_head.encoder.num_classes + 1),
                (outputs.box, 4),
            )
        )
        encoder = _encoder(config)
        priors = official_priors(encoder, encoder.feat_sizes(outputs), tuple(image.shape[2:]))
        for key, value in dict(loc=loc, conf=cls.roll(1, dims=2), priors=priors).items():
            found |= {f'{key}{name.removeprefix("image")}': value, f'{name}.{key}': value}
    return found


def _run_darknet(
    model: nn.Module, config: ConfigDict, inputs: Mapping[str, Tensor], names: Sequence[str]
) -> Outputs:
    encoder, outputs = _encoder(config), forward(model, inputs['image'])
    heads = sorted({int(key.split('_')[1]) for key in names})
    if not hasattr(outputs, 'levels'):  # YOLOv1
        conf, box = outputs.conf.permute(0, 2, 3, 1), outputs.box.permute(0, 3, 4, 1, 2)
        parts = outputs.cls.permute(0, 2, 3, 1), conf, box
        vector = torch.cat([part.flatten(1) for part in parts], 1)[..., None, None]
        return {f'{when}_{heads[0]}': vector for when in ('pre', 'post')}
    found: Outputs = {}
    for level, (head, level_map) in enumerate(zip(heads, outputs.levels, strict=True)):
        raw = split_level(level_map, len(encoder.anchors[level]))
        found[f'pre_{head}'] = level_map.sigmoid() if encoder.squared else level_map
        if hasattr(encoder, 'background'):  # YOLOv2: cell-major, with raw x, y
            obj, cls = encoder.scores(raw)
            parts = torch.cat((raw.xy, raw.wh, obj.unsqueeze(2), cls), 2)
            found[f'post_{head}'] = parts.permute(0, 3, 1, 2)
        else:
            grid = encoder.grid(level, tuple(level_map.shape[2:]), (1, 1), raw.xy)
            found[f'post_{head}'] = layer_output(encoder, raw, grid)
    return found


def _run_pytorch(
    model: nn.Module, config: ConfigDict, inputs: Mapping[str, Tensor], names: Sequence[str]
) -> Outputs:
    outputs, size = forward(model, inputs['image']), inputs['image'].shape[2:]
    found = {f'raw_{k}': level for k, level in enumerate(outputs.levels)}
    if 'decoded' in names:
        boxes, objectness, scores = _encoder(config).decode_all(outputs, size)
        parts = box_center(boxes), box_size(boxes), objectness[..., None], scores
        found['decoded'] = torch.cat(parts, 2)
    return found


DARKNET_CONFIGS = {
    'yolov1': 'yolov1/yolov1_extraction_8xb8-155e_voc0712.py',
    'yolov2': 'yolov2/yolov2_d19_8xb8-ms-273e_coco.py',
    'yolov3': 'yolov3/yolov3_d53_8xb8-ms-608-273e_coco.py',
    'yolov3-spp': 'yolov3/yolov3_d53-spp_8xb8-ms-608-273e_coco.py',
    'yolov4': 'yolov4/yolov4_csp53_8xb8-ms-608-273e_coco.py',
    'yolov4-csp': 'yolov4/yolov4-csp_8xb8-640-273e_coco.py',
    'yolov4x-mish': 'yolov4/yolov4x-mish_8xb8-640-273e_coco.py',
    'yolov4-p5': 'yolov4/yolov4-p5_8xb8-896-273e_coco.py',
    'yolov4-p6': 'yolov4/yolov4-p6_8xb8-1280-273e_coco.py',
}
"""Name of the official cfg -> config."""
_FAMILIES = {
    'cornernet': (_corner_changes, _run_corner),
    'centernet': (_center_changes, _run_center),
    'darknet': (_class_changes, _run_darknet),
    'yolov4': (_class_changes, _run_pytorch),
    'scaled': (_class_changes, _run_pytorch),
    'ssd': (_class_changes, _run_ssd),
}
"""First word of a layout -> ``changes`` and ``run`` of its networks."""
_ROWS: dict[str, tuple[str, str | Callable[[Shapes, str], str]]] = {
    'cornernet_hg*': ('cornernet', 'cornernet/cornernet_hg104_8xb6-500k_coco.py'),
    'cornernet_lite*': ('cornernet', 'cornernet/cornernet_hg104_8xb6-500k_coco.py'),
    'cornernet_squeeze*': ('cornernet', 'cornernet_squeeze/cornernet_squeeze_8xb7-500k_coco.py'),
    'cornernet_saccade*': ('cornernet', 'cornernet_saccade/cornernet_saccade_8xb6-500k_coco.py'),
    'centernet_triplet*': ('cornernet', 'centernet_triplet/*_hg104_8xb6-480k_coco.py'),
    'ctdet_resdcn*': ('centernet_resdcn', 'centernet_points/*_resdcn18_8xb14-140e_coco.py'),
    'ctdet_dla*': ('centernet_dla', 'centernet_points/*_dla34_8xb16-140e_coco.py'),
    'ctdet_hourglass*': ('centernet_hourglass', 'centernet_points/*_hg104_8xb3-50e_coco.py'),
    'multi_pose_dla*': ('centernet_dla', 'centernet_pose/*_dla34_8xb16-320e_coco.py'),
    'multi_pose_hourglass*': ('centernet_hourglass', 'centernet_pose/*_hg104_8xb3-50e_coco.py'),
    'centertrack_dla*': ('centernet_dla', 'centertrack/centertrack_dla34_2xb16-70e_mot17.py'),
    **{name: ('darknet', config) for name, config in DARKNET_CONFIGS.items()},
    'yolov2-voc': ('darknet', DARKNET_CONFIGS['yolov2']),
    'yolov4_pytorch': ('yolov4_pytorch', DARKNET_CONFIGS['yolov4']),
    'scaled_yolov4*': (
        'scaled_yolov4',
        lambda _, name: f'scaled_yolov4/{name}_*-300e-*.py',
    ),
    'ssd*': ('ssd_pytorch', _ssd_config),
}
NETWORKS = {
    pattern: Network(layout, config, *_FAMILIES[layout.partition('_')[0]])
    for pattern, (layout, config) in _ROWS.items()
}
"""Pattern of a golden network's name -> how to build and run it."""
