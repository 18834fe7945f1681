"""Layers and networks of darknet: loops, shapes, options, errors."""

from __future__ import annotations

import pytest
import torch
from mmdet.models.backbones import Darknet
from mmdet.models.necks import YOLOV3Neck
from torch import Tensor, nn

from mmdet_losses.detectors.yolo.predictors import (
    ScaledYOLOV4Predictor,
    YOLOV1Predictor,
    YOLOV2Predictor,
    YOLOV3Predictor,
    YOLOV4Predictor,
)
from mmdet_losses.networks import (
    DarknetCSP,
    LocallyConnected2d,
    PlainDarknet,
    ScaledYOLOV4Neck,
    SPPYOLOV3Neck,
    YOLOV2Neck,
    YOLOV4Neck,
    darknet_reorg,
)
from mmdet_losses.networks.darknet_layers import SpatialPyramidPooling
from mmdet_losses.registry import MODELS


def test_reorg_equals_loops_over_memory() -> None:
    x = torch.arange(2 * 8 * 4 * 6).reshape(2, 8, 4, 6)
    for image, got in zip(x, darknet_reorg(x), strict=True):
        buffer, out = image.reshape(2, 8, 12), torch.empty(8, 4, 6, dtype=x.dtype)
        for channel in range(8):
            (dy, dx), c = divmod(channel // 2, 2), channel % 2
            for row in range(4):
                for column in range(6):
                    out[channel, row, column] = buffer[c, 2 * row + dy, 2 * column + dx]
        assert torch.equal(got, out.reshape(32, 2, 3))


def test_reorg_is_not_space_to_depth() -> None:
    x = torch.arange(64.0).reshape(1, 4, 4, 4)
    assert not torch.equal(darknet_reorg(x), nn.functional.pixel_unshuffle(x, 2))
    with pytest.raises(ValueError, match='multiples of 32'):
        darknet_reorg(x[:, :, :3])


def test_the_local_layer_equals_a_loop_and_its_gradient_is_correct() -> None:
    torch.manual_seed(0)
    layer = LocallyConnected2d(2, 3, (4, 5)).double()
    nn.init.normal_(layer.bias)
    x = torch.randn(2, 2, 4, 5, dtype=torch.double)
    padded, expected = nn.functional.pad(x, (1, 1, 1, 1)), torch.empty(2, 3, 4, 5).double()
    for row in range(4):
        for column in range(5):
            patch = padded[:, :, row : row + 3, column : column + 3].flatten(1)
            expected[:, :, row, column] = patch @ layer.weight[row * 5 + column].T
    expected += layer.bias
    torch.testing.assert_close(layer(x), expected)
    assert torch.autograd.gradcheck(layer, x.requires_grad_())
    with pytest.raises(ValueError, match=r'\(4, 5\) cells .* has \(5, 4\)'):
        layer(x.transpose(2, 3))


def test_the_pooling_pyramid_has_darknets_order() -> None:
    x = torch.zeros(1, 1, 15, 15)
    x[..., 7, 7] = 1
    counts = SpatialPyramidPooling()(x).sum((2, 3))
    assert counts.tolist() == [[169, 81, 25, 1]]


def small(name: str) -> tuple[nn.Module, nn.Module, nn.Module]:
    plain = dict(width=0.125)
    v4 = (32, 64, 128), (16, 32, 64)
    return {
        'v1': lambda: (
            PlainDarknet('extraction', out_indices=(4,), **plain),
            nn.Identity(),
            YOLOV1Predictor(3, 128, (2, 3), 4, 2, hidden_channels=8),
        ),
        'v1-paper': lambda: (
            PlainDarknet('extraction', out_indices=(4,), **plain),
            nn.Identity(),
            YOLOV1Predictor(3, 128, (2, 3), 4, 2, hidden='connected', hidden_channels=32),
        ),
        'v2': lambda: (
            PlainDarknet('darknet19', **plain),
            YOLOV2Neck((64, 128), 64, 8),
            YOLOV2Predictor(3, 64, 5),
        ),
        'v3': lambda: (
            DarknetCSP('csp', 0.25, 0.125),
            YOLOV3Neck(3, [128, 64, 32], [64, 32, 16]),
            YOLOV3Predictor(3, (64, 32, 16)),
        ),
        'v3-spp': lambda: (
            DarknetCSP('csp', 0.25, 0.125),
            SPPYOLOV3Neck(3, [128, 64, 32], [64, 32, 16]),
            YOLOV3Predictor(3, (64, 32, 16)),
        ),
        'v4': lambda: (
            DarknetCSP('v4', 0.25, 0.125),
            YOLOV4Neck(*v4),
            YOLOV4Predictor(3, v4[1]),
        ),
        'scaled': lambda: (
            DarknetCSP('p5', 0.1, 0.125),
            ScaledYOLOV4Neck(*v4, renorm=True),
            ScaledYOLOV4Predictor(3, v4[1], 4),
        ),
    }[name]()


def flat(outputs: tuple) -> list[Tensor]:
    return list(outputs[0]) if isinstance(outputs[0], tuple) else list(outputs)


@pytest.mark.parametrize(
    ('name', 'shapes'),
    [
        ('v1', [(2, 3, 4, 4), (2, 2, 4, 4), (2, 2, 4, 4, 4)]),
        ('v1-paper', [(2, 3, 4, 4), (2, 2, 4, 4), (2, 2, 4, 4, 4)]),
        ('v2', [(2, 40, 4, 6)]),
        ('v3', [(2, 24, 4, 6), (2, 24, 8, 12), (2, 24, 16, 24)]),
        ('v3-spp', [(2, 24, 4, 6), (2, 24, 8, 12), (2, 24, 16, 24)]),
        ('v4', [(2, 24, 16, 24), (2, 24, 8, 12), (2, 24, 4, 6)]),
        ('scaled', [(2, 32, 16, 24), (2, 32, 8, 12), (2, 32, 4, 6)]),
    ],
)
def test_outputs_have_their_shapes_and_every_parameter_gets_a_gradient(
    name: str, shapes: list
) -> None:
    torch.manual_seed(0)
    backbone, neck, predictor = small(name)
    outputs = predictor(neck(backbone(torch.randn(2, 3, 128, 192))))
    assert type(outputs).__name__.endswith('Outputs')
    maps = flat(outputs)
    assert [tuple(each.shape) for each in maps] == shapes
    sum(each.square().sum() for each in maps).backward()
    for part in (backbone, neck, predictor):
        dead = [n for n, p in part.named_parameters() if p.grad is None or not p.grad.any()]
        assert not dead  # there is no bias before a batch norm


def test_yolov1_reads_the_flat_vector_in_darknet_order() -> None:
    predictor = YOLOV1Predictor(3, 4, (2, 3), side=2, num_boxes=2, hidden_channels=4).eval()
    nn.init.zeros_(predictor.output.weight)
    predictor.output.bias.data = torch.arange(2 * 2 * 13).float()
    cls, conf, box = predictor((torch.zeros(1, 4, 2, 3),))
    cell = 1 * 2 + 0  # row 1, column 0
    assert cls[0, :, 1, 0].tolist() == [3.0 * cell + c for c in range(3)]
    assert conf[0, :, 1, 0].tolist() == [12 + 2.0 * cell + a for a in range(2)]
    assert box[0, 1, :, 1, 0].tolist() == [20 + 4 * (2.0 * cell + 1) + k for k in range(4)]


def test_depth_and_width_scale_the_backbone() -> None:
    with torch.device('meta'):
        network = DarknetCSP('p5', depth=0.34, width=0.25)
    assert [len(stage.blocks) for stage in network.stages] == [1, 1, 5, 5, 2]
    assert [stage.down.out_channels for stage in network.stages] == [16, 32, 64, 128, 256]
    with torch.device('meta'):
        plain = PlainDarknet('darknet19', width=0.1)
    assert plain.stages[4][1].out_channels == 56  # 51.2 up to a multiple of 8


def test_custom_stages_and_norm_are_used() -> None:
    network = PlainDarknet((((3, 8),), ((3, 16, 2), (1, 8))), 1, (1,), dict(type='BN', eps=1e-3))
    assert network(torch.zeros(1, 3, 16, 16))[0].shape == (1, 8, 4, 4)
    assert {m.eps for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


@pytest.mark.parametrize('module', [DarknetCSP('v4', 0.1, 0.1), PlainDarknet(width=0.1)])
def test_layers_are_darknets(module: nn.Module) -> None:
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and {norm.eps for norm in norms} == {1e-5}
    slopes = {m.negative_slope for m in module.modules() if isinstance(m, nn.LeakyReLU)}
    assert slopes <= {0.1}


def test_mmdetections_darknet_has_the_same_layers() -> None:
    with torch.device('meta'):
        network = Darknet()
    assert {m.eps for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-5}
    assert {m.negative_slope for m in network.modules() if isinstance(m, nn.LeakyReLU)} == {0.1}


@pytest.mark.parametrize(
    ('build', 'words'),
    [
        (lambda: DarknetCSP('v5'), r"arch='v5' is unknown; choose 'v4'"),
        (lambda: DarknetCSP('v4', out_indices=(3, 6)), r'out_indices is \(3, 6\)'),
        (lambda: PlainDarknet('darknet53'), r"arch='darknet53' is unknown; choose"),
        (lambda: PlainDarknet(out_indices=(6,)), r'out_indices is \(6,\)'),
        (lambda: YOLOV4Neck((8, 16), (8, 16, 32)), r'in_channels has 2 entries'),
        (lambda: YOLOV1Predictor(hidden='dense'), "hidden='dense' is unknown"),
        (lambda: YOLOV4Predictor(strides=(8, 16)), 'strides has 2 entries for 3 maps'),
    ],
)
def test_invalid_options_raise(build: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build()


def test_strides_set_the_biases_to_the_prior() -> None:
    predictor = YOLOV4Predictor(4, (8, 16, 32), 3, strides=(8, 16, 32))
    for stride, level in zip((8, 16, 32), predictor.levels, strict=True):
        bias = level.pred.bias.reshape(3, 9)
        cells = (640 / stride) ** 2
        torch.testing.assert_close(bias[:, 4].exp() * cells, torch.full((3,), 8.0))
        torch.testing.assert_close(bias[:, 5:].exp(), torch.full((3, 4), 0.6 / 3.01))
        assert not bias[:, :4].any()
    assert not any(level.pred.bias.any() for level in YOLOV4Predictor(4, (8, 16, 32)).levels)


@pytest.mark.parametrize(
    'name',
    ['DarknetCSP', 'PlainDarknet', 'YOLOV2Neck', 'SPPYOLOV3Neck', 'YOLOV4Neck', 'ScaledYOLOV4Neck'],
)
def test_networks_build_from_a_config(name: str) -> None:
    with torch.device('meta'):
        assert isinstance(MODELS.build(dict(type=name)), nn.Module)
