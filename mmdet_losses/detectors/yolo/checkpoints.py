"""Official weights of the YOLO family: file orders and rules, and the networks that they fill.

Darknet's files have no names. They need an *order*: paths of our network, within which the layers
are registered in the order of the file. The PyTorch files have names and need rules.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import ConfigDict
from torch import Tensor, nn

from mmdet_losses.core.checkpoint import (
    KeyMap,
    Layout,
    network_of,
    part_types,
    read_checkpoint,
)
from mmdet_losses.detectors.yolo.darknet_files import (
    WeightsFileError,
    layers_in_order,
    read_darknet_weights,
    read_header,
)
from mmdet_losses.detectors.yolo.pickled_modules import read_pickled_module

_HEAD = 'bbox_head.predictor'

# -------------------------------------------------------------------------- darknet's `.weights`

_PLAIN_ORDER = ('backbone', 'neck', _HEAD)
_V4_ORDER = (
    *('backbone', 'neck.pyramid', 'neck.top_down', f'{_HEAD}.levels.0'),
    *('neck.bottom_up.0', f'{_HEAD}.levels.1'),
    *('neck.bottom_up.1', f'{_HEAD}.levels.2'),
)
_ORDERS = {
    'YOLOV1Predictor': ('backbone', _HEAD),
    'YOLOV2Predictor': _PLAIN_ORDER,
    'YOLOV3Predictor': (
        *('backbone', 'neck.detect1', f'{_HEAD}.levels.0'),
        *('neck.conv1', 'neck.detect2', f'{_HEAD}.levels.1'),
        *('neck.conv2', 'neck.detect3', f'{_HEAD}.levels.2'),
    ),
    'YOLOV4Predictor': _V4_ORDER,
    'ScaledYOLOV4Predictor': _V4_ORDER,
    'DarknetPredictor': ('backbone',),
}
"""Class of the predictor -> order of the file."""


def darknet_order(model: ConfigDict) -> tuple[str, ...]:
    """Paths of the network of a config, in the order of darknet's file.

    Convention:
        yolov4-p5.cfg, yolov4-p6.cfg and the cfgs with Swish put all heads after the neck, the
        other cfgs each head where its map is computed.
    """
    swish = (model.backbone.get('act_cfg') or {}).get('type') == 'Swish'
    if swish or model.backbone.get('arch') in ('p5', 'p6'):
        return _PLAIN_ORDER
    return _ORDERS[part_types(model)[2]]


def _fill(path: Path, network: nn.Module, model: ConfigDict, partial: bool) -> dict[str, Tensor]:
    try:
        return read_darknet_weights(path, network, darknet_order(model), partial)
    except WeightsFileError as error:
        own, classes = model.bbox_head.predictor.num_classes, classes_of_file(path, model)
        if classes in (own, None):
            raise
        raise WeightsFileError(
            f'{path.name} has the size of this network with {classes} classes, but the config has '
            f'num_classes={own}: add --allow-class-layers to leave out the class layers, or set '
            f'num_classes to {classes}.'
        ) from error


def with_classes(model: ConfigDict, classes: int) -> ConfigDict:
    """The config of a model with another number of classes."""
    model = copy.deepcopy(model)
    parts = [model.bbox_head.predictor]
    parts += [model.backbone] if model.backbone.type == 'DarknetFromCfg' else []
    for part in parts:
        part.num_classes = classes
    return model


def classes_of_file(path: Path, model: ConfigDict) -> int | None:
    """Number of classes with which the network has as many numbers as a darknet file.

    None if there is no such number.
    """
    own = model.bbox_head.predictor.num_classes
    header = read_header(path)
    have = (path.stat().st_size - header.size) / 4
    need, more = (_count(with_classes(model, each)) for each in (own, own + 1))
    classes = own + (have - need) / (more - need)
    return int(classes) if classes >= 1 and classes == int(classes) else None


def _count(model: ConfigDict) -> int:
    """Number of floats in the darknet file of a network."""
    network = network_of(model)
    shapes = {key: value.numel() for key, value in network.state_dict().items()}
    layers = layers_in_order(network, darknet_order(model))
    return sum(shapes[key] for layer in layers for key in layer.keys)


def _model_of_file(path: Path, model: ConfigDict) -> ConfigDict:
    classes = classes_of_file(path, model)
    return model if classes is None else with_classes(model, classes)


# ------------------------------------------------------------------- Scaled-YOLOv4 in PyTorch

_CONCAT_BN = r'\.bn\.(weight|bias|running_mean|running_var)$'


def scaled_yolov4_map(arch: str, levels: int) -> KeyMap:
    """Rules from the module numbers of the official yaml to our names.

    Args:
        arch: of ``DarknetCSP``.
        levels: number of maps.

    Convention:
        The modules are numbered in the order of the yaml: stem, (down, stage) for every stage,
        pyramid, (reduce, enlarge, lateral, join, block) for every map of the top-down path, then
        heads and (shrink, join, block) of the bottom-up path, then the detection layer. The rule
        is checked on csp and P5; P6 and P7 follow it.
    """
    pyramid = 2 * (levels + 2) + 1
    claims = [(r'model\.0\.', 'backbone.stem.')]
    for stage in range(levels + 2):
        ours = f'backbone.stages.{stage}'
        claims.append((rf'model\.{2 * stage + 1}\.', f'{ours}.down.'))
        plain = stage == 0 and arch in ('csp', 'x')
        block = (
            [(r'cv([12])\.', rf'{ours}.blocks.0.conv\1.')]
            if plain
            else _block_rules(ours, 'main', 'transition', 'fuse')
        )
        claims += [(rf'model\.{2 * stage + 2}\.{pattern}', by) for pattern, by in block]
    claims += [(rf'model\.{pyramid}\.{pattern}', by) for pattern, by in _PYRAMID_RULES]
    number = pyramid + 1
    for step in range(levels - 1):
        ours = f'neck.top_down.{step}'
        claims.append((rf'model\.{number}\.', f'{ours}.reduce.'))
        claims.append((rf'model\.{number + 2}\.', f'{ours}.lateral.'))
        claims += _fuse_rules(number + 4, ours)
        number += 5
    claims.append((rf'model\.{number}\.', f'{_HEAD}.levels.0.conv.'))
    for step in range(levels - 1):
        ours = f'neck.bottom_up.{step}'
        claims.append((rf'model\.{number + 1}\.', f'{ours}.down.'))
        claims += _fuse_rules(number + 3, ours)
        number += 4
        claims.append((rf'model\.{number}\.', f'{_HEAD}.levels.{step + 1}.conv.'))
    detect = number + 1
    claims.append((rf'model\.{detect}\.m\.(\d+)\.', rf'{_HEAD}.levels.\1.pred.'))
    anchors = (rf'model\.{detect}\.anchor', 'anchors belong to the encoder, in its config')
    return KeyMap(tuple(claims), (), (anchors,), class_layers=r'levels\.\d+\.pred\.')


def _block_rules(ours: str, main: str, deep: str, fuse: str) -> list[tuple[str, str]]:
    """A BottleneckCSP: cv1 starts the deep branch, cv2 is the cross branch."""
    rules = [
        (r'cv1\.', f'{ours}.{main}.'),
        (r'cv2\.', f'{ours}.cross.conv.'),
        (r'm\.(\d+)\.cv([12])\.', rf'{ours}.blocks.\1.conv\2.'),
        (r'bn\.deep\.', f'{ours}.{deep}.bn.'),
        (r'bn\.cross\.', f'{ours}.cross.bn.'),
    ]
    if deep == 'transition':
        rules.append((r'cv3\.', f'{ours}.transition.conv.'))
        return [*rules, (r'cv4\.', f'{ours}.{fuse}.')]
    return [*rules, (r'cv3\.', f'{ours}.{fuse}.')]


def _fuse_rules(number: int, ours: str) -> list[tuple[str, str]]:
    rules = _block_rules(f'{ours}.fuse', 'main', 'renorm', 'fuse')
    return [(rf'model\.{number}\.{pattern}', by) for pattern, by in rules]


_PYRAMID_RULES = (
    (r'cv1\.', 'neck.pyramid.before.0.'),
    (r'cv2\.', 'neck.pyramid.cross.conv.'),
    (r'cv3\.', 'neck.pyramid.before.1.'),
    (r'cv4\.', 'neck.pyramid.before.2.'),
    (r'cv5\.', 'neck.pyramid.after.0.'),
    (r'cv6\.', 'neck.pyramid.after.1.'),
    (r'cv7\.', 'neck.pyramid.fuse.'),
    (r'bn\.deep\.', 'neck.pyramid.renorm.bn.'),
    (r'bn\.cross\.', 'neck.pyramid.cross.bn.'),
)


def split_scaled_yolov4(source: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The official state dict with shared batch norms split by branch, in float32.

    Convention:
        A batch norm over the concatenation [deep, cross] becomes two, ``bn.deep`` and
        ``bn.cross``. The convolution behind the pools, the only one named ``cv5``, reads
        [x, 5, 9, 13] there and [13, 9, 5, x] here. Stripped files are in half precision.
    """
    shared = {key.removesuffix('.cv2.weight') for key in source if key.endswith('.cv2.weight')}
    result: dict[str, Tensor] = {}
    for key, value in source.items():
        value = value.float() if value.is_floating_point() else value
        owner, _, leaf = key.rpartition('.bn.')
        if owner in shared and value.dim() == 1:
            deep, cross = value.chunk(2)
            result[f'{owner}.bn.deep.{leaf}'], result[f'{owner}.bn.cross.{leaf}'] = deep, cross
        elif key.endswith('.cv5.conv.weight'):
            result[key] = torch.cat(value.chunk(4, dim=1)[::-1], dim=1)
        else:
            result[key] = value
    return result


def read_scaled_yolov4(path: Path) -> dict[str, Tensor]:
    """The official file (a pickled network) or a plain state dict, its shared batch norms split.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no network.
    """
    try:
        source = read_checkpoint(path)
    except ValueError:
        source = read_pickled_module(path)
    return split_scaled_yolov4(source)


# ------------------------------------------------------------------------- YOLOv4 in PyTorch


def _yolov4_torch_claims() -> list[tuple[str, str]]:
    """Rules for the PyTorch port of YOLOv4, which numbers its layers as darknet does."""
    first = ('down', 'cross', 'main', 'blocks.0.conv1', 'blocks.0.conv2', 'transition', 'fuse')
    claims = {'down1.conv1': 'backbone.stem'}
    claims |= {f'down1.conv{i}': f'backbone.stages.0.{name}' for i, name in enumerate(first, 2)}
    names = ('down', 'cross', 'main', 'transition', 'fuse')
    for stage in range(1, 5):
        ours = f'backbone.stages.{stage}'
        claims |= {f'down{stage + 1}.conv{i}': f'{ours}.{n}' for i, n in enumerate(names, 1)}
    neck = [f'neck.pyramid.{i}' for i in (0, 1, 2, 4, 5, 6)]
    for step in range(2):
        ours = f'neck.top_down.{step}'
        neck += [f'{ours}.reduce', f'{ours}.lateral', *(f'{ours}.fuse.{i}' for i in range(5))]
    head = [f'{_HEAD}.levels.0.conv', f'{_HEAD}.levels.0.pred']
    for step in range(2):
        ours, level = f'neck.bottom_up.{step}', f'{_HEAD}.levels.{step + 1}'
        head += [f'{ours}.down', *(f'{ours}.fuse.{i}' for i in range(5))]
        head += [f'{level}.conv', f'{level}.pred']
    claims |= {f'neck.conv{i}': name for i, name in enumerate(neck, 1)}
    claims |= {f'head.conv{i}': name for i, name in enumerate(head, 1)}
    return [(theirs.replace('.', r'\.') + r'\.', f'{ours}.') for theirs, ours in claims.items()]


def _residual_claims() -> list[tuple[str, str]]:
    return [
        (
            rf'down{stage + 1}\.resblock\.module_list\.(\d+)\.{theirs}\.',
            rf'backbone.stages.{stage}.blocks.\1.{ours}.',
        )
        for stage in range(1, 5)
        for theirs, ours in ((0, 'conv1'), (1, 'conv2'))
    ]


YOLOV4_TORCH = KeyMap(
    (*_yolov4_torch_claims(), *_residual_claims()),
    ((r'\.conv\.0\.', '.conv.'), (r'\.conv\.1\.', '.bn.'), (r'\.pred\.conv\.', '.pred.')),
    class_layers=r'levels\.\d+\.pred\.',
)

_V4 = ('DarknetCSP', 'YOLOV4Neck', 'YOLOV4Predictor')
_SCALED = ('DarknetCSP', 'ScaledYOLOV4Neck', 'ScaledYOLOV4Predictor')


def _renormalised(model: ConfigDict) -> bool:
    """Whether the neck has the second batch norm of the PyTorch code."""
    return bool((model.get('neck') or {}).get('renorm', False))


def _scaled_rules(model: ConfigDict) -> KeyMap:
    backbone = model.backbone
    return scaled_yolov4_map(
        backbone.get('arch', 'v4'), len(backbone.get('out_indices', (3, 4, 5)))
    )


LAYOUTS = {
    'darknet': Layout(
        source='darknet (.weights, and .conv.N with --partial)',
        networks=(
            ('DarknetFromCfg', '', 'DarknetPredictor'),
            ('PlainDarknet', '', 'YOLOV1Predictor'),
            ('PlainDarknet', 'YOLOV2Neck', 'YOLOV2Predictor'),
            ('Darknet', '(SPP)?YOLOV3Neck', 'YOLOV3Predictor'),
            _V4,
            _SCALED,
        ),
        # filled under our names: nothing is renamed, and only class layers can differ in shape
        rules=KeyMap(claims=((r'', ''),), class_layers=r''),
        fill=_fill,
        of_file=_model_of_file,
        only=lambda model: not _renormalised(model),
    ),
    'yolov4_pytorch': Layout(
        source='the PyTorch port of YOLOv4 (yolov4.pth)', networks=(_V4,), rules=YOLOV4_TORCH
    ),
    'scaled_yolov4': Layout(
        source='Scaled-YOLOv4 in PyTorch (.pt)',
        networks=(_SCALED,),
        rules=_scaled_rules,
        read=read_scaled_yolov4,
        only=_renormalised,
    ),
}
