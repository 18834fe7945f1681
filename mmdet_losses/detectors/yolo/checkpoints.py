"""Official weights of the YOLO family: orders and rules, and the networks they fill.

Darknet's files have no names, so a table of theirs is an *order*: paths of our network, within
which layers are registered as the file has them. The PyTorch files have names and take rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from mmdet.models.backbones import Darknet
from mmdet.models.necks import YOLOV3Neck
from torch import Tensor, nn

from mmdet_losses.core.checkpoint import Family, KeyMap, assemble, read_checkpoint
from mmdet_losses.detectors.yolo.darknet_files import read_darknet_weights
from mmdet_losses.detectors.yolo.pickled_modules import read_pickled_module
from mmdet_losses.detectors.yolo.predictors import (
    ScaledYOLOV4Predictor,
    YOLOV1Predictor,
    YOLOV2Predictor,
    YOLOV3Predictor,
    YOLOV4Predictor,
)
from mmdet_losses.networks.csp_darknet import DarknetCSP
from mmdet_losses.networks.plain_darknet import PlainDarknet
from mmdet_losses.networks.scaled_yolov4_neck import ScaledYOLOV4Neck
from mmdet_losses.networks.yolov2_neck import YOLOV2Neck
from mmdet_losses.networks.yolov3_spp_neck import SPPYOLOV3Neck
from mmdet_losses.networks.yolov4_neck import YOLOV4Neck

_HEAD = 'bbox_head.predictor'
SCALED_NORM = dict(type='BN', eps=1e-3, momentum=0.03)
"""Batch norm of the PyTorch code of Scaled-YOLOv4."""


def build_yolov1(
    num_classes: int = 20,
    num_boxes: int = 3,
    side: int = 7,
    feat_size: tuple[int, int] = (7, 7),
) -> nn.Module:
    """YOLOv1 with the official locally connected layer."""
    predictor = YOLOV1Predictor(num_classes, feat_size=feat_size, side=side, num_boxes=num_boxes)
    return assemble(PlainDarknet('extraction', out_indices=(4,)), predictor)


def build_yolov2(num_classes: int = 80, num_anchors: int = 5) -> nn.Module:
    """YOLOv2 on Darknet-19 with the passthrough."""
    predictor = YOLOV2Predictor(num_classes, num_anchors=num_anchors)
    return assemble(PlainDarknet('darknet19'), predictor, YOLOV2Neck())


def build_yolov3(num_classes: int = 80, spp: bool = False) -> nn.Module:
    """YOLOv3 on MMDetection's Darknet-53, optionally with the pooling pyramid."""
    neck = SPPYOLOV3Neck() if spp else YOLOV3Neck(3, [1024, 512, 256], [512, 256, 128])
    return assemble(Darknet(), YOLOV3Predictor(num_classes, (512, 256, 128)), neck)


def build_yolov4(num_classes: int = 80) -> nn.Module:
    """YOLOv4 on CSPDarknet-53."""
    return assemble(DarknetCSP('v4'), YOLOV4Predictor(num_classes), YOLOV4Neck())


class _Scaled(NamedTuple):
    channels: tuple[int, ...]  # of the backbone's maps, from stride 8 on
    outs: tuple[int, ...]
    anchors: int
    neck: dict


_SCALED = {
    'csp': _Scaled((256, 512, 1024), (128, 256, 512), 3, dict(blocks=2)),
    'x': _Scaled((320, 640, 1280), (160, 320, 640), 3, dict(blocks=3, pyramid_pairs=2)),
    'p5': _Scaled((256, 512, 1024), (128, 256, 512), 4, dict(blocks=3)),
    'p6': _Scaled((256, 512, 1024, 1024), (128, 256, 512, 512), 4, dict(blocks=3)),
    'p7': _Scaled((320, 640, 1280, 1280, 1280), (160, 320, 640, 640, 640), 4, dict(blocks=3)),
}


def build_scaled_yolov4(
    arch: str = 'csp',
    num_classes: int = 80,
    num_anchors: int | None = None,
    darknet: bool = False,
) -> nn.Module:
    """YOLOv4-csp, yolov4x-mish, P5, P6 or P7.

    Args:
        arch: ``'csp'``, ``'x'``, ``'p5'``, ``'p6'`` or ``'p7'``.
        num_classes: classes.
        num_anchors: anchors a cell; None for the official number.
        darknet: darknet's layout (one batch norm a branch, ``eps=1e-5``) or the PyTorch code's.
    """
    channels, outs, anchors, options = _SCALED[arch]
    cfg = {} if darknet else dict(norm_cfg=SCALED_NORM)
    levels = tuple(range(3, 3 + len(channels)))
    return assemble(
        DarknetCSP(arch, out_indices=levels, **cfg),
        ScaledYOLOV4Predictor(num_classes, outs, num_anchors or anchors, **cfg),
        ScaledYOLOV4Neck(channels, outs, renorm=not darknet, **options, **cfg),
    )


# ---------------------------------------------------------------------- darknet's `.weights`


class DarknetTable(NamedTuple):
    """A network of darknet and the order of its file."""

    build: Callable[..., nn.Module]
    order: tuple[str, ...]

    def load(self, path: Path, network: nn.Module, partial: bool = False) -> dict[str, Tensor]:
        """The file's numbers under our names; see :func:`read_darknet_weights`."""
        return read_darknet_weights(path, network, self.order, partial)


_V3_ORDER = (
    'backbone',
    *('neck.detect1', f'{_HEAD}.levels.0'),
    *('neck.conv1', 'neck.detect2', f'{_HEAD}.levels.1'),
    *('neck.conv2', 'neck.detect3', f'{_HEAD}.levels.2'),
)
_V4_ORDER = (
    *('backbone', 'neck.pyramid', 'neck.top_down', f'{_HEAD}.levels.0'),
    *('neck.bottom_up.0', f'{_HEAD}.levels.1'),
    *('neck.bottom_up.1', f'{_HEAD}.levels.2'),
)
_PLAIN_ORDER = ('backbone', 'neck', _HEAD)


def _scaled_table(arch: str, order: tuple[str, ...]) -> DarknetTable:
    return DarknetTable(partial(build_scaled_yolov4, arch, darknet=True), order)


DARKNET_TABLES = {
    'yolov1': DarknetTable(build_yolov1, ('backbone', _HEAD)),
    'yolov2': DarknetTable(build_yolov2, _PLAIN_ORDER),
    'yolov3': DarknetTable(build_yolov3, _V3_ORDER),
    'yolov3-spp': DarknetTable(partial(build_yolov3, spp=True), _V3_ORDER),
    'yolov4': DarknetTable(build_yolov4, _V4_ORDER),
    'yolov4-csp': _scaled_table('csp', _V4_ORDER),
    'yolov4x-mish': _scaled_table('x', _V4_ORDER),
    'yolov4-p5': _scaled_table('p5', _PLAIN_ORDER),
    'yolov4-p6': _scaled_table('p6', _PLAIN_ORDER),
}
"""Name of the official cfg -> network and order; its number of classes is an option."""


# ------------------------------------------------------------------- Scaled-YOLOv4 in PyTorch

_CONCAT_BN = r'\.bn\.(weight|bias|running_mean|running_var)$'


def scaled_yolov4_map(arch: str) -> KeyMap:
    """Rules from the module numbers of the official yaml to our names.

    Convention:
        The modules are numbered in the order of the yaml: stem, (down, stage) for every stage,
        pyramid, (reduce, enlarge, lateral, join, block) for every map on the way down, then heads
        and (shrink, join, block) on the way up, at last the detection layer. P6 and P7 follow the
        rule that csp and P5 were checked with.
    """
    levels = len(_SCALED[arch].channels)
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
    """The official state dict with its joint layers taken apart, in float32.

    Convention:
        A batch norm over the concatenation [deep, cross] becomes two, ``bn.deep`` and
        ``bn.cross``. The convolution behind the pools, the only one named ``cv5``, reads
        [x, 5, 9, 13] there and [13, 9, 5, x] here. Stripped files are in half precision.
    """
    joints = {key.removesuffix('.cv2.weight') for key in source if key.endswith('.cv2.weight')}
    result: dict[str, Tensor] = {}
    for key, value in source.items():
        value = value.float() if value.is_floating_point() else value
        owner, _, leaf = key.rpartition('.bn.')
        if owner in joints and value.dim() == 1:
            deep, cross = value.chunk(2)
            result[f'{owner}.bn.deep.{leaf}'], result[f'{owner}.bn.cross.{leaf}'] = deep, cross
        elif key.endswith('.cv5.conv.weight'):
            result[key] = torch.cat(value.chunk(4, dim=1)[::-1], dim=1)
        else:
            result[key] = value
    return result


def read_scaled_yolov4(path: Path) -> dict[str, Tensor]:
    """The official file (a pickled network) or a plain state dict, its joint layers taken apart.

    Raises:
        FileNotFoundError, ValueError: no such file, or nothing like a network in it.
    """
    try:
        source = read_checkpoint(path)
    except ValueError:
        source = read_pickled_module(path)
    return split_scaled_yolov4(source)


# ------------------------------------------------------------------------- YOLOv4 in PyTorch


def _yolov4_torch_claims() -> list[tuple[str, str]]:
    """Names of the widespread PyTorch port; its numbers follow darknet's layers."""
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

_OWN_NAMES = KeyMap(((r'', ''),))
"""Darknet's numbers are read under our names, so nothing is left to rename."""

FAMILIES = {
    **{
        f'darknet_{name.replace("-", "_")}': Family(_OWN_NAMES, table.build, fill=table.load)
        for name, table in DARKNET_TABLES.items()
    },
    'yolov4_pytorch': Family(YOLOV4_TORCH, build_yolov4),
    **{
        f'scaled_yolov4_{arch}': Family(
            scaled_yolov4_map(arch), partial(build_scaled_yolov4, arch), read_scaled_yolov4
        )
        for arch in ('csp', 'p5', 'p6', 'p7')
    },
}
