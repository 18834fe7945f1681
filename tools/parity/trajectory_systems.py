"""Which recipe stands for an official trainer, and how it shrinks to a golden case."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config, ConfigDict
from torch import Tensor, nn

from mmdet_losses.core.checkpoint import convert
from mmdet_losses.detectors.checkpoints import LAYOUTS
from mmdet_losses.detectors.yolo.checkpoints import darknet_order
from mmdet_losses.detectors.yolo.darknet_files import layers_in_order
from tools.parity.center_common import BRANCHES
from tools.parity.models import official_source, ssd_pattern
from tools.parity.trajectory_case import TrajectoryCase

Terms = dict[str, float]
State = Mapping[str, Tensor]


class System(NamedTuple):
    """An official trainer."""

    layout: str
    """Name in ``LAYOUTS``; empty for weights in the order of darknet's files."""
    recipe: str
    """Pattern of the recipe below ``configs/``; it matches one file."""
    shrink: Callable[[Config, TrajectoryCase], None]
    """Changes the recipe's model to the network of a case."""
    losses: Callable[[Terms, Mapping[str, Any]], Terms]
    """Our logged losses and the case's meta to the official terms."""

    def convert(self, source: State, model: nn.Module, config: ConfigDict) -> dict[str, Tensor]:
        """Official state, our model and its config, to our state."""
        if not self.layout:
            return _by_order(source, model, config)
        source = official_source(self.layout, dict(source), {}, Path())
        return convert(source, model.state_dict(), LAYOUTS[self.layout].key_map(config)).state_dict


# ------------------------------------------------------------------------------- corner family


WIDTH = re.compile(r'(?:module\.)?tl_heats\.0\.0\.conv\.weight')
"""Official key with the width inside a branch."""


def _shrink_stacks(backbone: ConfigDict, network: Mapping[str, Any]) -> None:
    """Stacks, levels and widths of an hourglass."""
    if network['nstack'] == 1 and backbone.type == 'HourglassNet':
        backbone.type = 'StackedHourglassNet'  # without unused layers between stacks
    widths = dict(num_stacks=network['nstack'], stage_channels=network['dims'])
    widths['stage_blocks'] = network['modules']
    if backbone.type == 'HourglassNet':
        widths |= dict(downsample_times=network['n'], feat_channel=network['cnv_dim'])
    else:
        widths['feat_channels'] = network['cnv_dim']
    backbone.update(widths)


def _shrink_hourglass(cfg: Config, case: TrajectoryCase) -> None:
    network = case.meta['network']
    head = cfg.model.bbox_head
    _shrink_stacks(cfg.model.backbone, network)
    head.predictor.update(
        in_channels=network['cnv_dim'],
        num_classes=network['out_dim'],
        num_stacks=network['nstack'],
        channels=next(shape[0] for key, shape in case.keys.items() if WIDTH.fullmatch(key)),
        pool_channels=network['pool_channels'],
    )
    if 'attention_channels' in network:
        head.predictor.attention_channels = network['attention_channels']
    head.encoder.num_classes = network['out_dim']


def _corner_losses(found: Terms, meta: Mapping[str, Any]) -> Terms:
    terms = dict(total=found['loss'], pull=found['loss_pull'], push=found['loss_push'])
    for name in ('heatmap', 'offset'):
        official = 'focal' if name == 'heatmap' else name
        terms[official] = sum(v for k, v in found.items() if re.fullmatch(rf'loss_\w+_{name}', k))
    if 'loss_attention' in found:
        terms['attention'] = found['loss_attention']
    return terms


# ------------------------------------------------------------------------------- centre family

_CENTER_TERMS = {name: f'loss_{ours}' for name, ours in BRANCHES.items()}
_CENTER_TERMS |= {'off': 'loss_offset', 'hp': 'loss_keypoints'}


def _shrink_points(cfg: Config, case: TrajectoryCase) -> None:
    network = case.meta['network']
    head = cfg.model.bbox_head
    hidden = network.get('head_conv')
    if hidden:  # one number, or a list per branch
        widths = hidden if isinstance(hidden, dict) else {'all': [hidden]}
        head.predictor.channels = next(iter(widths.values()))[0]
    depth = re.search(r'res(?:dcn)?_?(\d+)', network['arch'])
    if depth and 'depth' in cfg.model.backbone:
        cfg.model.backbone.depth = int(depth[1])
        cfg.model.neck.in_channels = 512 if int(depth[1]) < 50 else 2048
    if network.get('dla_node') == 'conv':
        cfg.model.neck.conv = 'conv'
    if 'nstack' in network:
        _shrink_stacks(cfg.model.backbone, network)
        head.predictor.update(in_channels=network['cnv_dim'], num_stacks=network['nstack'])
        head.predictor.channels = network['dims'][0]
    head.predictor.num_classes = network['heads']['hm']
    head.encoder.num_classes = network['heads']['hm']
    if case.meta['system'].startswith('centertrack'):
        head.encoder.update(center_noise=0.0, lost_rate=0.0, false_rate=0.0)
        for name in ('tracking', 'ltrb_amodal', 'ltrb'):
            _set_branch(head, name, name in network['heads'], case.meta)


def _set_branch(head: ConfigDict, name: str, present: bool, meta: Mapping[str, Any]) -> None:
    """A branch of CenterTrack with its loss, or neither."""
    head.predictor[f'with_{name}'] = present
    loss = f'loss_{name}'
    if not present:
        head.criterion.pop(loss, None)
    elif loss not in head.criterion:
        weight = meta['weights'][name]
        head.criterion[loss] = dict(type='MaskedWeightedL1Loss', loss_weight=weight)


def _center_losses(found: Terms, meta: Mapping[str, Any]) -> Terms:
    weights = {'hp_offset': meta['weights'].get('off', 1), **meta['weights']}
    terms = {
        official: found[ours] / weights[official]
        for official, ours in _CENTER_TERMS.items()
        if ours in found and official in weights
    }
    return dict(terms, total=found['loss'])


# ------------------------------------------------------------------------------- anchors, grids


COCO_SIZES = (21, 45, 99, 153, 207, 261, 315)
"""Prior sizes of ssd.pytorch for any number of classes but that of PASCAL VOC."""


def _shrink_ssd(cfg: Config, case: TrajectoryCase) -> None:
    """Only the number of classes can change."""
    head = cfg.model.bbox_head
    classes = case.keys['conf.0.weight'][0] // head.predictor.num_anchors[0] - 1
    if classes != head.encoder.num_classes:
        head.encoder.update(min_sizes=COCO_SIZES[:-1], max_sizes=COCO_SIZES[1:])
        head.predictor.num_classes = head.encoder.num_classes = classes


def _ssd_losses(found: Terms, meta: Mapping[str, Any]) -> Terms:
    return dict(total=found['loss'], loc=found['loss_box'], conf=found['loss_cls'])


def _shrink_scaled(cfg: Config, case: TrajectoryCase) -> None:
    """Widths times ``width_multiple``, depths times ``depth_multiple``, as the official yaml."""
    network = case.meta['network']
    divided = re.search(r'divided by (\d+)', network.get('filters', ''))
    width = network.get('width_multiple', 1 / int(divided[1]) if divided else 1.0)
    depth = network.get('depth_multiple', 1.0)
    model, classes = cfg.model, network['nc']
    model.backbone.update(width=width, depth=depth)
    head = model.bbox_head
    for part, names in (
        (model.neck, ('in_channels', 'out_channels')),
        (head.predictor, ('in_channels',)),
    ):
        for name in names:
            part[name] = [_divisible(each * width) for each in part[name]]
    if 'blocks' in model.neck:
        model.neck.blocks = max(round(model.neck.blocks * depth), 1)
    head.predictor.num_classes = head.encoder.num_classes = classes
    head.encoder.anchors = case.io['anchors'].tolist()


def _divisible(channels: float) -> int:
    return max(8, -(-int(channels) // 8) * 8)


def _scaled_losses(found: Terms, meta: Mapping[str, Any]) -> Terms:
    batch = meta['schedule']['batch_size']
    terms = {name: found[f'loss_{name}'] / batch for name in ('box', 'obj', 'cls')}
    return dict(terms, sum=found['loss'] / batch, total=found['loss'])


_NORM = [f'BatchNorm2d.{name}' for name in ('bias', 'weight', 'running_mean', 'running_var')]


def _by_order(source: State, model: nn.Module, config: ConfigDict) -> dict[str, Tensor]:
    """Layers of a cfg, by the order of darknet's file."""
    numbers = sorted({int(key.split('.')[1]) for key in source})
    layers = layers_in_order(model, darknet_order(config))
    state = {}
    for number, layer in zip(numbers, layers, strict=True):
        first = _NORM if len(layer.keys) == 5 else ['Conv2d.bias']
        for name, key in zip([*first, 'Conv2d.weight'], layer.keys, strict=True):
            state[key] = source[f'module_list.{number}.{name}']
    counters = {k: v for k, v in model.state_dict().items() if k.endswith('num_batches_tracked')}
    return {**state, **{k: torch.zeros_like(v) for k, v in counters.items()}}


_CORNER, _CENTER = (_shrink_hourglass, _corner_losses), (_shrink_points, _center_losses)
_SSD, _SCALED = (_shrink_ssd, _ssd_losses), (_shrink_scaled, _scaled_losses)
_PYTORCH, _FULL = 'scaled_yolov4', 'scaled_yolov4/scaled_yolov4_{}_8xb8-300e-*_coco.py'
SYSTEMS = {
    'cornernet': System('cornernet', 'cornernet/*_hg104_*500k_coco.py', *_CORNER),
    'cornernet_squeeze': System('cornernet', 'cornernet_squeeze/*_*500k_coco.py', *_CORNER),
    'cornernet_saccade': System('cornernet', 'cornernet_saccade/*_*500k_coco.py', *_CORNER),
    'centernet_triplet': System('cornernet', 'centernet_triplet/*_hg104_*480k_coco.py', *_CORNER),
    'ctdet_resdcn': System(
        'centernet_resdcn', 'centernet_points/*_resdcn18_*140e_coco.py', *_CENTER
    ),
    'ctdet_dla': System('centernet_dla', 'centernet_points/*_dla34_8xb16-140e_coco.py', *_CENTER),
    'ctdet_hourglass': System(
        'centernet_hourglass', 'centernet_points/*_hg104_*50e_coco.py', *_CENTER
    ),
    'multi_pose_dla': System('centernet_dla', 'centernet_pose/*_dla34_*140e_coco.py', *_CENTER),
    'multi_pose_hourglass': System(
        'centernet_hourglass', 'centernet_pose/*_hg104_*-50e_coco.py', *_CENTER
    ),
    'centertrack': System('centernet_dla', 'centertrack/*_dla34_2xb16-70e_mot17.py', *_CENTER),
    'centertrack_pose': System('centernet_dla', 'centertrack/*_coco_pose.py', *_CENTER),
    'ssd300': System('ssd_pytorch', ssd_pattern(300, 'voc0712'), *_SSD),
    'ssd512': System('ssd_pytorch', ssd_pattern(512, 'voc0712'), *_SSD),
    **{arch: System(_PYTORCH, _FULL.format(arch), *_SCALED) for arch in ('csp', 'p5', 'p6', 'p7')},
    'cspcfg': System('', 'scaled_yolov4/scaled_yolov4_csp-cfg_*_coco.py', *_SCALED),
    'v4cfg': System('', 'yolov4/yolov4_csp53-pytorch_*_coco.py', *_SCALED),
    'pacspcfg': System('', 'yolov4/yolov4-pacsp_*_coco.py', *_SCALED),
}
"""System of a case -> its recipe; :func:`system_of` finds it."""
CFGS = {'yolov4': 'v4cfg', 'yolov4-csp': 'cspcfg', 'yolov4-pacsp': 'pacspcfg'}
"""Name of a cfg of the PyTorch codes -> system."""


def system_of(meta: Mapping[str, Any]) -> System | None:
    """The system of a case: its name, and the network where one trainer has several."""
    name, network = meta['system'], meta.get('network', {})
    task = next((each for each in ('ctdet', 'multi_pose') if name.startswith(each)), None)
    if task and 'arch' in network:
        name = f'{task}_{re.split("_?[0-9]", network["arch"])[0]}'
    if name.startswith('centertrack'):
        name = 'centertrack_pose' if 'hps' in network.get('heads', ()) else 'centertrack'
    if cfg := re.search(r'([\w-]+)\.cfg\b', network.get('official', '')):
        name = CFGS.get(cfg[1], name)
    return SYSTEMS.get(name) or SYSTEMS.get(re.sub(r'_?\d+$', '', name))
