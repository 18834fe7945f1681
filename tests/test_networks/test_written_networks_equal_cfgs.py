"""YOLOv2, YOLOv3, YOLOv4, csp and x-mish: the written networks equal ``DarknetFromCfg``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from mmdet_losses.core.checkpoint import network_of
from mmdet_losses.detectors.yolo.checkpoints import darknet_order
from mmdet_losses.detectors.yolo.darknet_files import layers_in_order
from mmdet_losses.networks.darknet_from_cfg import DarknetFromCfg
from tests import darknet_tables
from tools.parity.models import forward

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
MAPS = dict(in_channels=(64, 128, 256), out_channels=(32, 64, 128))
OFFICIAL = {
    'yolov2': (darknet_tables.yolov2(), 50_676_061),
    'yolov3': (darknet_tables.yolov3(), 62_001_757),
    'yolov4': (darknet_tables.yolov4('v4'), 64_429_405),
    'yolov4-csp': (darknet_tables.yolov4('csp'), 52_986_205),
    'yolov4x-mish': (darknet_tables.yolov4('x'), 99_847_037),
}
"""Table of a cfg, and the number of floats that the official program stores."""
CASES = {
    'yolov2/yolov2_d19_8xb8-ms-310e_voc0712': (
        darknet_tables.yolov2(0.125, 35),
        dict(
            backbone=dict(width=0.125),
            neck=dict(in_channels=(64, 128), out_channels=128, passthrough_channels=8),
            bbox_head=dict(predictor=dict(in_channels=128)),
        ),
    ),
    'yolov3/yolov3_d53_8xb8-ms-416-273e_coco': (darknet_tables.yolov3(21), {}),
    'yolov4/yolov4_csp53_8xb8-ms-608-273e_coco': (
        darknet_tables.yolov4('v4', 0.25, 21),
        dict(
            backbone=dict(width=0.25),
            neck=MAPS,
            bbox_head=dict(predictor=dict(in_channels=MAPS['out_channels'])),
        ),
    ),
    'yolov4/yolov4-csp_8xb8-640-273e_coco': (
        darknet_tables.yolov4('csp', 0.25, 21),
        dict(
            backbone=dict(width=0.25),
            neck=MAPS,
            bbox_head=dict(predictor=dict(in_channels=MAPS['out_channels'])),
        ),
    ),
    'yolov4/yolov4x-mish_8xb8-640-273e_coco': (
        darknet_tables.yolov4('x', 0.2, 21),
        dict(
            backbone=dict(width=0.2),
            neck=MAPS,
            bbox_head=dict(predictor=dict(in_channels=MAPS['out_channels'])),
        ),
    ),
}
"""Recipe -> table of a narrow network with two classes, and the same width for the recipe."""


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def arrays(network: nn.Module, order: tuple[str, ...]) -> list[str]:
    return [key for layer in layers_in_order(network, order) for key in layer.keys]


@pytest.mark.parametrize('name', OFFICIAL)
def test_a_table_has_the_numbers_of_the_official_file(name):
    table, floats = OFFICIAL[name]
    with torch.device('meta'):
        network = nn.ModuleDict(dict(backbone=DarknetFromCfg(table)))
    state = network.state_dict()
    assert sum(state[key].numel() for key in arrays(network, ('backbone',))) == floats


@pytest.mark.parametrize('name', CASES)
def test_the_written_network_equals_the_table(name):
    table, changes = CASES[name]
    model = Config.fromfile(CONFIGS / f'{name}.py').model
    model.backbone.pop('init_cfg', None)
    config = Config(dict(model=model))
    config.merge_from_dict(dict(model=changes))
    config.merge_from_dict({'model.bbox_head.predictor.num_classes': 2})
    written = network_of(config.model).to_empty(device='cpu').eval()
    generator = torch.Generator().manual_seed(0)
    for key, value in written.state_dict().items():
        if key.endswith('running_var'):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.is_floating_point():
            fan_in = value[0].numel() if value.dim() > 1 else 4
            value.normal_(0, fan_in**-0.5, generator=generator)
    state = written.state_dict()
    with torch.device('meta'):
        imported = nn.ModuleDict(dict(backbone=DarknetFromCfg(table))).eval()
    ours, theirs = arrays(written, darknet_order(config.model)), arrays(imported, ('backbone',))
    values = {key: state[own] for key, own in zip(theirs, ours, strict=True)}
    imported.load_state_dict(values, strict=False, assign=True)
    image = torch.rand(1, 3, 64, 96, generator=generator)
    with torch.no_grad():
        have, want = forward(written, image).levels, imported.backbone(image)
    for one, other in zip(have, want, strict=True):
        assert 0 < other.std() < torch.inf
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * float(other.std()))
