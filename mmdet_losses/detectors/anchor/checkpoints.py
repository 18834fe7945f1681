"""Official weights of the anchor family: rules, and the networks they fill.

RetinaNet's are MMDetection's; the paper's own are Caffe2 files of another network.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from mmdet.models.backbones import SSDVGG, ResNet
from mmdet.models.necks import FPN, SSDNeck
from torch import Tensor, nn

from mmdet_losses.core.checkpoint import Family, KeyMap, assemble, read_checkpoint
from mmdet_losses.detectors.anchor.predictors import RetinaNetPredictor, SSDPredictor

_HEAD = 'bbox_head.predictor'
_ANCHORS = {300: (4, 6, 6, 6, 4, 4), 512: (4, 6, 6, 6, 6, 4, 4)}


def build_ssd(num_classes: int = 20, size: int = 300) -> nn.Module:
    """SSD300 or SSD512 on VGG-16, of MMDetection's backbone and neck.

    Raises:
        ValueError: another size.
    """
    if size not in _ANCHORS:
        raise ValueError(f'`size` is {size}; SSD is defined for {sorted(_ANCHORS)}.')
    extra = (512, 256, 256, 256) if size == 300 else (512, 256, 256, 256, 256)
    outs = (512, 1024, *extra)
    neck = SSDNeck(
        in_channels=(512, 1024),
        out_channels=outs,
        level_strides=(2, 2, 1, 1) if size == 300 else (2, 2, 2, 2, 1),
        level_paddings=(1, 1, 0, 0) if size == 300 else (1, 1, 1, 1, 1),
        last_kernel_size=3 if size == 300 else 4,
        l2_norm_scale=20,
    )
    backbone = SSDVGG(
        depth=16,
        with_last_pool=False,
        ceil_mode=True,
        out_indices=(3, 4),
        out_feature_indices=(22, 34),
    )
    return assemble(backbone, SSDPredictor(num_classes, outs, _ANCHORS[size]), neck)


SSD = KeyMap(
    claims=(
        (r'vgg\.', 'backbone.features.'),
        (r'L2Norm\.', 'neck.l2_norm.'),
        *((rf'extras\.{2 * i}\.', f'neck.extra_layers.{i}.0.conv.') for i in range(5)),
        *((rf'extras\.{2 * i + 1}\.', f'neck.extra_layers.{i}.1.conv.') for i in range(5)),
        (r'conf\.', f'{_HEAD}.cls_convs.'),
        (r'loc\.', f'{_HEAD}.box_convs.'),
    ),
    ignored=((r'^priors$', 'priors belong to the encoder, which computes them'),),
    class_layers=r'cls_convs\.',
)


def background_last(source: Mapping[str, Tensor], size: int = 300) -> dict[str, Tensor]:
    """The official state dict with the background, first class there, moved to the end.

    Args:
        source: with ``conf.<level>.weight`` and ``.bias``, channels (prior, class).
        size: 300 or 512: how many priors each level has.
    """
    result = dict(source)
    for level, anchors in enumerate(_ANCHORS[size]):
        for key in (f'conf.{level}.weight', f'conf.{level}.bias'):
            if key in result and result[key].shape[0] % anchors == 0:
                value = result[key].unflatten(0, (anchors, -1))
                result[key] = torch.cat([value[:, 1:], value[:, :1]], dim=1).flatten(0, 1)
    return result


def read_ssd(path: Path, size: int = 300) -> dict[str, Tensor]:
    """A file of the official PyTorch code, its background moved to the end."""
    return background_last(read_checkpoint(path), size)


def build_retinanet(num_classes: int = 80, depth: int = 50) -> nn.Module:
    """RetinaNet on ResNet and FPN, of MMDetection's backbone and neck."""
    neck = FPN([256, 512, 1024, 2048], 256, 5, start_level=1, add_extra_convs='on_input')
    return assemble(ResNet(depth), RetinaNetPredictor(num_classes), neck)


RETINANET = KeyMap(
    claims=(
        (r'(backbone|neck)\.', r'\1.'),
        (r'bbox_head\.(?=(cls|reg)_convs\.|retina_(cls|reg)\.)', f'{_HEAD}.'),
    ),
    class_layers=r'retina_cls\.',
)

FAMILIES = {
    **{
        f'ssd{size}': Family(SSD, partial(build_ssd, size=size), partial(read_ssd, size=size))
        for size in (300, 512)
    },
    'retinanet_mmdet': Family(RETINANET, build_retinanet),
}
