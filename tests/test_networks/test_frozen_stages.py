"""Frozen stages of our backbones: no gradient, and batch norm in evaluation mode."""

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet_losses.networks.freezing import FreezableBackbone
from mmdet_losses.registry import MODELS

LAYERS = [
    dict(type='convolutional', filters=8, size=3, batch_normalize=1, activation='leaky'),
    dict(type='convolutional', filters=8, size=3, batch_normalize=1, activation='leaky'),
    dict(type='yolo'),
]
SMALL = dict(stage_channels=(8, 8), stage_blocks=(1, 1), feat_channels=8, num_stacks=2)
CASES = {
    'DLANet': (
        dict(levels=(1, 1, 1), channels=(8, 8, 8), out_indices=(2,), frozen_stages=1),
        ('base_layer', 'levels.0', 'levels.1'),
    ),
    'DarknetCSP': (
        dict(depth=0.1, width=0.1, out_indices=(2,), frozen_stages=1),
        ('stem', 'stages.0'),
    ),
    'DarknetFromCfg': (dict(layers=LAYERS, frozen_stages=1), ('layers.0',)),
    'PlainDarknet': (
        dict(arch=[((3, 8),), ((3, 8),)], out_indices=(1,), frozen_stages=0),
        ('stages.0',),
    ),
    'SaccadeHourglassNet': (SMALL | dict(frozen_stages=0), ('stem',)),
    'SqueezeHourglassNet': (SMALL | dict(frozen_stages=0), ('stem',)),
    'StackedHourglassNet': (
        SMALL | dict(frozen_stages=1),
        ('stem', *(f'{name}.0' for name in (
            'hourglass_modules', 'out_convs', 'conv1x1s', 'remap_convs', 'inters'))),
    ),
}  # fmt: skip
"""Type -> (config, layers that are frozen)."""


@pytest.mark.parametrize('name', CASES)
def test_frozen_layers_have_no_gradient_and_keep_their_statistics(name):
    config, frozen = CASES[name]
    net = MODELS.build(dict(type=name, **config))
    net.eval().train()
    before = {key: value.clone() for key, value in net.named_buffers()}
    outputs = net(torch.randn(2, 3, 16, 16))
    sum(out.square().sum() for out in outputs).backward()
    used = [key for key, value in net.named_parameters() if value.grad is not None]
    assert used and not [key for key in used if key.startswith(frozen)]
    for key, parameter in net.named_parameters():
        assert parameter.requires_grad != key.startswith(frozen), key
    for key, layer in net.named_modules():
        if isinstance(layer, _BatchNorm):
            assert layer.training != key.startswith(frozen), key
    moved = [key for key, value in net.named_buffers() if not torch.equal(value, before[key])]
    assert moved and not [key for key in moved if key.startswith(frozen)]
    net.freeze(0)
    assert all(value.requires_grad for value in net.parameters())
    assert all(layer.training for layer in net.modules())


def test_every_backbone_is_a_case():
    ours = {
        name
        for name, kind in MODELS.module_dict.items()
        if isinstance(kind, type) and issubclass(kind, FreezableBackbone)
    }
    assert ours == set(CASES)


@pytest.mark.parametrize('count', [-2, 2])
def test_stages_that_do_not_exist_raise(count):
    config = CASES['PlainDarknet'][0] | dict(frozen_stages=count)
    with pytest.raises(ValueError, match=rf'cannot freeze {count + 1} stages; it has 2'):
        MODELS.build(dict(type='PlainDarknet', **config))


def test_the_stems_of_the_previous_frame_are_trained_beside_a_frozen_stem():
    inner = dict(type='mmdet.CSPDarknet', deepen_factor=0.1, widen_factor=0.125, frozen_stages=0)
    net = MODELS.build(
        dict(type='PreviousFrameBackbone', backbone=inner, stem='stem', channels=8)
    ).train()
    trained = {key for key, value in net.named_parameters() if value.requires_grad}
    assert 'backbone.stem.previous_image.conv.weight' in trained
    assert 'backbone.stem.image.conv.conv.weight' not in trained
    assert net.backbone.stem.previous_image.bn.training
