"""Official weights of the anchor family: their keys, and the networks that they fill.

RetinaNet's weights are MMDetection's. The paper's own are Caffe2 files of another network.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mmdet_losses.core.checkpoint import KeyMap, Layout, read_checkpoint

_HEAD = 'bbox_head.predictor'

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


def background_last(source: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The official state dict with the background moved from the first class to the last.

    Args:
        source: with ``conf.<level>.*``, channels (prior, class), and ``loc.<level>.*``, channels
            (prior, 4).
    """
    result = dict(source)
    for key, value in source.items():
        boxes = source.get(key.replace('conf.', 'loc.'))
        if not key.startswith('conf.') or boxes is None or boxes.shape[0] % 4:
            continue
        priors = boxes.shape[0] // 4
        if value.shape[0] % priors == 0:
            value = value.unflatten(0, (priors, -1))
            result[key] = torch.cat([value[:, 1:], value[:, :1]], dim=1).flatten(0, 1)
    return result


def read_ssd(path: Path) -> dict[str, Tensor]:
    """A file of the official PyTorch code, its background class moved to the end."""
    return background_last(read_checkpoint(path))


RETINANET = KeyMap(
    claims=(
        (r'(backbone|neck)\.', r'\1.'),
        (r'bbox_head\.(?=(cls|reg)_convs\.|retina_(cls|reg)\.)', f'{_HEAD}.'),
    ),
    class_layers=r'retina_cls\.',
)

VGG = KeyMap(claims=((r'(?=\d+\.)', 'backbone.features.'),))

LAYOUTS = {
    'ssd_pytorch': Layout(
        source='ssd.pytorch (.pth)',
        networks=(('SSDVGG', 'SSDNeck', 'SSDPredictor'),),
        rules=SSD,
        read=read_ssd,
    ),
    'vgg16_reducedfc': Layout(
        source='ImageNet weights of VGG-16 for SSD (vgg16_reducedfc.pth), to start a training',
        networks=(('SSDVGG', 'SSDNeck', 'SSDPredictor'),),
        rules=VGG,
        prefix='backbone.',
    ),
    'retinanet_mmdet': Layout(
        source="MMDetection's RetinaNet (.pth)",
        networks=(('ResNet', 'FPN', 'RetinaNetPredictor'),),
        rules=RETINANET,
    ),
}
