"""Which recipe stands for an official trainer, and how it shrinks to a golden case."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from mmengine.config import Config, ConfigDict
from torch import Tensor, nn

from mmdet_losses.core.checkpoint import KeyMap, convert, strip_module
from mmdet_losses.detectors.anchor import checkpoints as anchor
from mmdet_losses.detectors.center import checkpoints as center
from mmdet_losses.detectors.corner import checkpoints as corner
from mmdet_losses.detectors.yolo import checkpoints as yolo
from mmdet_losses.detectors.yolo.darknet_files import layers_in_order
from tools.parity.trajectory_case import TrajectoryCase

Terms = dict[str, float]
State = Mapping[str, Tensor]


Convert = Callable[[State, nn.Module, ConfigDict], dict[str, Tensor]]


class System(NamedTuple):
    """An official trainer."""

    recipe: str
    """Pattern of the recipe below ``configs/``; it matches one file."""
    shrink: Callable[[Config, TrajectoryCase], None]
    """Changes the recipe's model to the network of a case."""
    convert: Convert
    """Official state, our model and its config, to our state."""
    losses: Callable[[Terms, Mapping[str, Any]], Terms]
    """Our logged losses and the case's meta to the official terms."""


def _by_rules(key_map: KeyMap) -> Convert:
    def apply(source: State, model: nn.Module, config: ConfigDict) -> dict[str, Tensor]:
        return convert(strip_module(source), model.state_dict(), key_map).state_dict

    return apply


# ------------------------------------------------------------------------------- corner family


def _shrink_hourglass(cfg: Config, case: TrajectoryCase) -> None:
    network = case.meta['network']
    backbone, head = cfg.model.backbone, cfg.model.bbox_head
    widths = dict(num_stacks=network['nstack'], stage_channels=network['dims'])
    widths['stage_blocks'] = network['modules']
    if backbone.type == 'HourglassNet':
        widths |= dict(downsample_times=network['n'], feat_channel=network['cnv_dim'])
    else:
        widths['feat_channels'] = network['cnv_dim']
    backbone.update(widths)
    head.predictor.update(
        in_channels=network['cnv_dim'],
        num_classes=network['out_dim'],
        num_stacks=network['nstack'],
        channels=_channels(case, 'tl_heats'),
        pool_channels=network['pool_channels'],
    )
    if 'attention_channels' in network:
        head.predictor.attention_channels = network['attention_channels']
    head.encoder.num_classes = network['out_dim']


def _channels(case: TrajectoryCase, branch: str) -> int:
    """Width inside a branch, from the official key list."""
    pattern = rf'(?:module\.)?{branch}\.0\.0\.conv\.weight'
    return next(shape[0] for key, shape in case.keys.items() if re.fullmatch(pattern, key))


def _corner_losses(found: Terms, meta: Mapping[str, Any]) -> Terms:
    terms = dict(total=found['loss'], pull=found['loss_pull'], push=found['loss_push'])
    for name in ('heatmap', 'offset'):
        official = 'focal' if name == 'heatmap' else name
        terms[official] = sum(v for k, v in found.items() if re.fullmatch(rf'loss_\w+_{name}', k))
    if 'loss_attention' in found:
        terms['attention'] = found['loss_attention']
    return terms


# ------------------------------------------------------------------------------- centre family

_CENTER_TERMS = dict(
    hm='loss_heatmap',
    wh='loss_size',
    off='loss_offset',
    reg='loss_offset',
    hp='loss_keypoints',
    hm_hp='loss_keypoint_heatmap',
    hp_offset='loss_keypoint_offset',
    tracking='loss_tracking',
    ltrb_amodal='loss_ltrb_amodal',
)


def _shrink_points(cfg: Config, case: TrajectoryCase) -> None:
    network = case.meta['network']
    head = cfg.model.bbox_head
    if (
        depth := re.search(r'res(?:dcn)?_?(\d+)', network['arch'])
    ) and 'depth' in cfg.model.backbone:
        cfg.model.backbone.depth = int(depth[1])
        cfg.model.neck.in_channels = 512 if int(depth[1]) < 50 else 2048
    head.predictor.num_classes = network['heads']['hm']
    head.encoder.num_classes = network['heads']['hm']
    if case.meta['system'].startswith('centertrack'):
        head.encoder.update(center_noise=0.0, lost_rate=0.0, false_rate=0.0)


def _center_losses(found: Terms, meta: Mapping[str, Any]) -> Terms:
    weights = {**meta['weights'], 'hp_offset': meta['weights'].get('off', 1)}
    terms = {
        official: found[ours] / weights[official]
        for official, ours in _CENTER_TERMS.items()
        if ours in found and official in weights
    }
    return dict(terms, total=found['loss'])


# ------------------------------------------------------------------------------- anchors, grids


def _shrink_ssd(cfg: Config, case: TrajectoryCase) -> None:
    """SSD is not shrunk."""


def _convert_ssd(source: State, model: nn.Module, config: ConfigDict) -> dict[str, Tensor]:
    return _by_rules(anchor.SSD)(anchor.background_last(source), model, config)


def _ssd_losses(found: Terms, meta: Mapping[str, Any]) -> Terms:
    return dict(total=found['loss'], loc=found['loss_box'], conf=found['loss_cls'])


def _shrink_scaled(cfg: Config, case: TrajectoryCase) -> None:
    """Widths times ``width_multiple``, depths times ``depth_multiple``, as the official yaml."""
    network = case.meta['network']
    width, depth = network.get('width_multiple', 0.25), network.get('depth_multiple', 1.0)
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


def _convert_scaled(source: State, model: nn.Module, config: ConfigDict) -> dict[str, Tensor]:
    rules = yolo.scaled_yolov4_map(config.backbone.arch, len(config.neck.in_channels))
    return _by_rules(rules)(yolo.split_scaled_yolov4(source), model, config)


def _scaled_losses(found: Terms, meta: Mapping[str, Any]) -> Terms:
    batch = meta['schedule']['batch_size']
    terms = {name: found[f'loss_{name}'] / batch for name in ('box', 'obj', 'cls')}
    return dict(terms, sum=found['loss'] / batch, total=found['loss'])


_LAYER = ('BatchNorm2d.bias', 'BatchNorm2d.weight', 'BatchNorm2d.running_mean')
_LAYER = (*_LAYER, 'BatchNorm2d.running_var', 'Conv2d.weight')


def _by_order(source: State, model: nn.Module, config: ConfigDict) -> dict[str, Tensor]:
    """Layers of a cfg, by the order of darknet's file."""
    numbers = sorted({int(key.split('.')[1]) for key in source})
    layers = layers_in_order(model, yolo.darknet_order(config))
    state = {}
    for number, layer in zip(numbers, layers, strict=True):
        names = _LAYER if len(layer.keys) == 5 else ('Conv2d.bias', 'Conv2d.weight')
        for name, key in zip(names, layer.keys, strict=True):
            state[key] = source[f'module_list.{number}.{name}']
    counters = {k: v for k, v in model.state_dict().items() if k.endswith('num_batches_tracked')}
    return {**state, **{k: torch.zeros_like(v) for k, v in counters.items()}}


SYSTEMS = {
    **{
        name: System(
            f'{folder}_coco.py', _shrink_hourglass, _by_rules(corner.CORNERS), _corner_losses
        )
        for name, folder in (
            ('cornernet', 'cornernet/cornernet_hg104_*500k'),
            ('cornernet_squeeze', 'cornernet_squeeze/cornernet_squeeze_*500k'),
            ('cornernet_saccade', 'cornernet_saccade/cornernet_saccade_*500k'),
            ('centernet_triplet', 'centernet_triplet/centernet_triplet_hg104_*480k'),
        )
    },
    'ctdet_resdcn18': System(
        'centernet_points/centernet_points_resdcn18_*140e_coco.py',
        _shrink_points,
        _by_rules(center.RESNET),
        _center_losses,
    ),
    'ctdet_dla34': System(
        'centernet_points/centernet_points_dla34_8xb16-140e_coco.py',
        _shrink_points,
        _by_rules(center.DLA),
        _center_losses,
    ),
    'multi_pose_dla34': System(
        'centernet_pose/centernet_pose_dla34_*140e_coco.py',
        _shrink_points,
        _by_rules(center.DLA),
        _center_losses,
    ),
    'centertrack': System(
        'centertrack/centertrack_dla34_2xb16-70e_mot17.py',
        _shrink_points,
        _by_rules(center.DLA),
        _center_losses,
    ),
    **{
        f'ssd{size}': System(
            f'ssd/ssd{size}_vgg16_*_voc0712.py', _shrink_ssd, _convert_ssd, _ssd_losses
        )
        for size in (300, 512)
    },
    **{
        arch: System(
            f'scaled_yolov4/scaled_yolov4_{arch}_8xb8-300e-*_coco.py',
            _shrink_scaled,
            _convert_scaled,
            _scaled_losses,
        )
        for arch in ('csp', 'p5', 'p6', 'p7')
    },
    'cspcfg': System(
        'scaled_yolov4/scaled_yolov4_csp-cfg_*_coco.py',
        _shrink_scaled,
        _by_order,
        _scaled_losses,
    ),
    'v4cfg': System(
        'yolov4/yolov4_csp53-pytorch_*_coco.py',
        _shrink_scaled,
        _by_order,
        _scaled_losses,
    ),
}
"""``system`` of a case's meta data -> its recipe."""
