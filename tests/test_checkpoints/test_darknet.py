"""Darknet's `.weights` files: order, header, strictness, and the official networks' outputs."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from torch import nn

from mmdet_losses.core.checkpoint import CheckpointMismatch, assemble, convert, network_of
from mmdet_losses.detectors.checkpoints import LAYOUTS
from mmdet_losses.detectors.yolo.checkpoints import YOLOV4_TORCH, darknet_order
from mmdet_losses.detectors.yolo.darknet_files import (
    OFFICIAL_FLOATS,
    WeightsFileError,
    layers_in_order,
    read_darknet_weights,
    read_header,
    write_darknet_weights,
)
from mmdet_losses.detectors.yolo.predictors import (
    YOLOV1Predictor,
    YOLOV2Predictor,
    YOLOV4Predictor,
)
from mmdet_losses.networks import DarknetCSP, PlainDarknet, YOLOV2Neck, YOLOV4Neck
from tools.parity.models import DARKNET_CONFIGS, check_model, recipe, ssd_pattern

GOLDEN = Path(__file__).parents[1] / 'golden' / 'models'
TABLES = json.loads((GOLDEN / 'darknet_tables.json').read_text())


def small_yolov2() -> nn.Module:
    return assemble(
        PlainDarknet('darknet19', width=0.125),
        YOLOV2Predictor(2, 128, num_anchors=2),
        YOLOV2Neck((64, 128), 128, 8),
    )


def small_yolov4() -> nn.Module:
    return assemble(
        DarknetCSP('v4', depth=0.25, width=0.125),
        YOLOV4Predictor(2, (16, 32, 64)),
        YOLOV4Neck((32, 64, 128), (16, 32, 64)),
    )


def small_yolov1() -> nn.Module:
    return assemble(
        PlainDarknet('extraction', width=0.125, out_indices=(4,)),
        YOLOV1Predictor(2, 128, (2, 3), side=2, hidden_channels=8),
    )


SMALL = {'yolov1': small_yolov1, 'yolov2': small_yolov2, 'yolov4': small_yolov4}
V1_ORDER, V2_ORDER, V4_ORDER = ORDERS = [darknet_order(recipe(DARKNET_CONFIGS[k])) for k in SMALL]


def official(name: str, num_classes: int = 80) -> tuple[nn.Module, tuple[str, ...]]:
    """The network of the recipe, without memory, and the order of its file."""
    model = recipe(DARKNET_CONFIGS[name], {'bbox_head.predictor.num_classes': num_classes})
    return network_of(model), darknet_order(model)


def floats_in(network: nn.Module) -> int:
    return sum(v.numel() for v in network.state_dict().values() if v.is_floating_point())


@pytest.mark.parametrize('name', sorted(TABLES))
def test_our_order_and_shapes_are_the_tables(name: str) -> None:
    of_voc = name in ('yolov1', 'yolov2-voc')
    network, order = official(name.removesuffix('-voc'), 20 if of_voc else 80)
    layers = layers_in_order(network, order)
    shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
    table = TABLES[name]['layers']
    assert len(layers) == len(table)
    for layer, (kind, norm, kernel) in zip(layers, table, strict=True):
        assert len(layer.keys) == (5 if norm else 2), layer.name
        ours = shapes[layer.keys[-1]]
        if kind == 'local':  # the table folds cells and channels into one axis
            ours = [ours[0] * ours[1], ours[2] // 9, 3, 3]
        assert ours == kernel, layer.name
    assert floats_in(network) == TABLES[name]['floats'] == OFFICIAL_FLOATS[name]


@pytest.mark.parametrize(
    'name', ['yolov1', 'yolov2', 'yolov3', 'yolov4', 'yolov4-csp', 'yolov4x-mish']
)
def test_outputs_equal_darknet(name: str) -> None:
    rows = check_model(GOLDEN / 'darknet' / name)
    assert rows and all(row.ok for row in rows), [row for row in rows if not row.ok]


@pytest.mark.parametrize(('name', 'order'), list(zip(SMALL, ORDERS, strict=True)), ids=list(SMALL))
def test_written_files_come_back(name: str, order: tuple[str, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = SMALL[name]()
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
    path = tmp_path / 'x.weights'
    write_darknet_weights(path, network, order, seen=6400)
    assert read_header(path) == (0, 2, 5, 6400, 20)
    assert path.stat().st_size == 20 + 4 * floats_in(network)
    state = read_darknet_weights(path, SMALL[name](), order)
    for key, value in network.state_dict().items():
        if not key.endswith('num_batches_tracked'):
            assert torch.equal(state[key], value), key


def write(path: Path, count: int, header: bytes | None = None, tail: bytes = b'') -> Path:
    header = struct.pack('<3iQ', 0, 2, 5, 0) if header is None else header
    path.write_bytes(header + np.arange(count, dtype='<f4').tobytes() + tail)
    return path


def test_short_header_of_old_versions(tmp_path: Path) -> None:
    network, order = small_yolov2(), V2_ORDER
    count = floats_in(network)
    old = write(tmp_path / 'old', count, struct.pack('<3iI', 0, 1, 0, 9))
    new = write(tmp_path / 'new', count)
    assert read_header(old) == (0, 1, 0, 9, 16)
    first, second = (read_darknet_weights(p, network, order) for p in (old, new))
    assert all(torch.equal(first[key], second[key]) for key in second)


def test_order_within_a_convolution_is_bias_scale_mean_variance_kernel(tmp_path: Path) -> None:
    network, order = small_yolov2(), V2_ORDER
    state = read_darknet_weights(write(tmp_path / 'x', floats_in(network)), network, order)
    for start, part in enumerate(('bn.bias', 'bn.weight', 'bn.running_mean', 'bn.running_var')):
        first = state[f'backbone.stages.0.0.{part}']
        assert first.tolist() == [8.0 * start + i for i in range(8)]
    assert float(state['backbone.stages.0.0.conv.weight'].flatten()[0]) == 32
    last = state['bbox_head.predictor.pred.weight'].flatten()[-1]
    assert float(last) == floats_in(network) - 1


def test_transposed_matrices_of_versions_above_1000(tmp_path: Path) -> None:
    network, order = small_yolov1(), V1_ORDER
    count = floats_in(network)
    plain = read_darknet_weights(write(tmp_path / 'a', count), network, order)
    header = struct.pack('<3iQ', 1001, 0, 0, 0)
    turned = read_darknet_weights(write(tmp_path / 'b', count, header), network, order)
    key = 'bbox_head.predictor.output.weight'
    rows, columns = plain[key].shape
    assert torch.equal(turned[key], plain[key].flatten().reshape(columns, rows).t())
    kernel = 'backbone.stages.0.0.conv.weight'
    assert torch.equal(turned[kernel], plain[kernel])


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (-1, ('floats', 'ends at layer 23 of 23', '`bbox_head.predictor.pred`')),
        (-200_000, ('ends at layer', 'batch norm')),
        (1, ('4 bytes follow the last layer', '`bbox_head.predictor.pred`')),
    ],
)
def test_wrong_length_names_the_layer(change: int, words: tuple[str, ...], tmp_path: Path) -> None:
    network, order = small_yolov2(), V2_ORDER
    count = floats_in(network)
    path = write(tmp_path / 'x.weights', count + change)
    with pytest.raises(WeightsFileError) as error:
        read_darknet_weights(path, network, order)
    message = str(error.value)
    assert all(word in message for word in (*words, str(count), str(count + change)))
    assert str(4 * count + 20) in message and '\n' not in message


def test_half_a_float_too_many_raises(tmp_path: Path) -> None:
    network, order = small_yolov2(), V2_ORDER
    path = write(tmp_path / 'x', floats_in(network), tail=b'ab')
    with pytest.raises(WeightsFileError, match='2 bytes follow the last layer'):
        read_darknet_weights(path, network, order)


def test_another_official_file_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / 'x.weights'
    with path.open('wb') as file:  # sparse: no bytes are stored for the hole
        file.write(struct.pack('<3iQ', 0, 2, 5, 0))
        file.truncate(20 + 4 * OFFICIAL_FLOATS['yolov3-spp'])
    model = recipe(DARKNET_CONFIGS['yolov4'])
    with pytest.raises(WeightsFileError, match=r'the size of yolov3-spp\.weights'):
        LAYOUTS['darknet'].load(path, network_of(model), model)


def test_numbers_in_another_order_show_as_negative_variance(tmp_path: Path) -> None:
    network, order = small_yolov2(), V2_ORDER
    path = write(tmp_path / 'x', floats_in(network))
    numbers = np.memmap(path, '<f4', 'r+', 20)
    numbers[24 + 3] = -1
    numbers.flush()
    with pytest.raises(WeightsFileError, match=r'`backbone\.stages\.0\.0` a variance below zero'):
        read_darknet_weights(path, network, order)
    numbers[24 + 3 : 24 + 5] = np.nan, np.inf
    numbers.flush()
    with pytest.raises(ValueError, match=r'x cannot be used: it has NaN or infinite values, 2 in'):
        read_darknet_weights(path, network, order)


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'', 'has 0 bytes'),
        (struct.pack('<4i', 0, 2, 5, 0), 'less than the 20 of a darknet header'),
        (b'\xff' * 64, 'not a darknet weights file'),
        (b'[net]\n# Testing\nbatch=1\n', r"a text file that begins with '\[net\]'"),
    ],
)
def test_a_file_that_is_no_weights_file_is_named(
    content: bytes, words: str, tmp_path: Path
) -> None:
    path = tmp_path / 'x.weights'
    path.write_bytes(content)
    with pytest.raises(WeightsFileError, match=words):
        read_header(path)
    with pytest.raises(FileNotFoundError, match='no weights file'):
        read_header(tmp_path / 'absent.weights')


@pytest.mark.parametrize('name', ['yolov3-spp', 'yolov3-tiny', 'yolov2-voc'])
def test_the_file_of_another_network_is_named(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / 'x.weights', 0)
    with path.open('r+b') as file:
        file.truncate(20 + 4 * OFFICIAL_FLOATS[name])
    with pytest.raises(WeightsFileError) as error:
        read_darknet_weights(path, small_yolov2(), V2_ORDER)
    assert f'it has the size of {name}.weights; choose a config of that' in str(error.value)
    assert f'or import {name}.cfg with it' in str(error.value)


def test_a_file_of_other_classes_is_named_and_its_class_layers_can_be_left_out(
    tmp_path: Path,
) -> None:
    layer = dict(
        type='convolutional', filters=16, size=1, activation='linear'
    )  # 2 anchors, 3 classes
    layers = [dict(layer, filters=4, batch_normalize=True), layer, dict(type='yolo', anchors=2)]
    model = ConfigDict(
        backbone=dict(type='DarknetFromCfg', layers=layers, num_classes=3),
        bbox_head=dict(predictor=dict(type='DarknetPredictor', detector='yolov3', num_classes=3)),
    )
    layout, path = LAYOUTS['darknet'], tmp_path / 'x.weights'
    write(path, 3 * 4 + 4 * 4 + 2 * (5 + 80) * 5)
    network = network_of(model)
    with pytest.raises(
        WeightsFileError, match=r'with 80 classes, but the config has num_classes=3'
    ):
        layout.load(path, network, model)
    source = layout.load(path, network, model, allow_class_layers=True)
    done = convert(source, layout.target(network), layout.key_map(model), allow_class_layers=True)
    assert done.class_layers == [
        'backbone.layers.1.layer.conv.bias',
        'backbone.layers.1.layer.conv.weight',
    ]
    assert set(done.state_dict) == set(network.state_dict()) - set(done.class_layers)
    write(path, 1000)
    with pytest.raises(WeightsFileError, match='download it again or choose the network'):
        layout.load(path, network, model, allow_class_layers=True)


def test_a_file_of_first_layers_needs_partial(tmp_path: Path) -> None:
    network, order = small_yolov2(), V2_ORDER
    backbone = floats_in(network['backbone'])
    path = write(tmp_path / 'darknet19.conv', backbone)
    with pytest.raises(WeightsFileError, match='layer 19 of 23'):
        read_darknet_weights(path, network, order)
    state = read_darknet_weights(path, network, order, partial=True)
    assert {key.split('.')[0] for key in state} == {'backbone'}
    assert sum(value.numel() for value in state.values()) == backbone
    with pytest.raises(WeightsFileError, match='floats'):
        write(path, backbone - 1)
        read_darknet_weights(path, network, order, partial=True)


@pytest.mark.parametrize(
    ('name', 'size', 'last'),
    [
        ('yolov3', 162_482_580, 'backbone.conv_res_block5.res3.conv2'),  # darknet53.conv.74
        ('yolov4', 170_038_676, 'neck.top_down.1.fuse.4'),  # yolov4.conv.137
    ],
)
def test_published_first_layers_end_with_a_layer(name: str, size: int, last: str) -> None:
    network, order = official(name)
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    floats, ends = 0, {}
    for layer in layers_in_order(network, order):
        floats += sum(shapes[key].numel() for key in layer.keys)
        ends[20 + 4 * floats] = layer.name
    assert ends[size] == last


@pytest.mark.parametrize(
    ('name', 'same'), [('yolov4-csp', 'yolov4-csp'), ('yolov4-csp-x', 'yolov4x-mish')]
)
def test_the_cfgs_with_swish_end_with_all_heads(name: str, same: str) -> None:
    """Heads 167, 171 and 175 of yolov4-csp-swish.cfg: four layers each, behind the neck."""
    model = recipe(f'yolov4/{name}-swish_8xb8-640-273e_coco.py')
    network = network_of(model)
    layers = layers_in_order(network, darknet_order(model))
    state = network.state_dict()
    assert (
        sum(state[key].numel() for layer in layers for key in layer.keys) == OFFICIAL_FLOATS[same]
    )
    heads = [
        f'bbox_head.predictor.levels.{i}.{part}' for i in range(3) for part in ('conv', 'pred')
    ]
    assert [layer.name for layer in layers[-6:]] == heads


def test_an_order_that_misses_a_layer_raises() -> None:
    network = small_yolov2()
    with pytest.raises(ValueError, match='does not name'):
        layers_in_order(network, ('backbone', 'neck'))
    with pytest.raises(ValueError, match='does not name'):
        layers_in_order(network, ('backbone', 'neck', 'neck.fuse', 'bbox_head.predictor'))
    with pytest.raises(ValueError, match=r'no `neck\.pyramid`'):
        layers_in_order(network, V4_ORDER)


def test_the_converter_fills_every_layer(tmp_path: Path) -> None:
    network = small_yolov4()
    path = tmp_path / 'x.weights'
    write_darknet_weights(path, network, V4_ORDER)
    layout, model, target = LAYOUTS['darknet'], recipe(DARKNET_CONFIGS['yolov4']), small_yolov4()
    source = layout.load(path, target, model)
    result = convert(source, target.state_dict(), layout.key_map(model))
    target.load_state_dict(result.state_dict)
    expected = network.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in target.state_dict().items())


def test_yolov4_pytorch_outputs_and_strictness() -> None:
    rows = check_model(GOLDEN / 'yolov4_pytorch')
    assert rows and all(row.ok for row in rows), [row for row in rows if not row.ok]
    keys = json.loads((GOLDEN / 'yolov4_pytorch' / 'keys.json').read_text())
    target = official('yolov4')[0].state_dict()
    with torch.device('meta'):
        source = {key: torch.empty(shape) for key, shape in keys.items()}
    source['head.conv19.conv.0.weight'] = source.pop('head.conv18.conv.0.weight')
    with pytest.raises(CheckpointMismatch, match=r'missing.*\n.*levels\.2\.pred\.weight') as error:
        convert(source, target, YOLOV4_TORCH)
    assert 'head.conv19.conv.0.weight' in str(error.value)


def test_the_parity_tool_decodes_by_the_recipe_of_the_size() -> None:
    anchors = {
        arch: recipe(f'scaled_yolov4/scaled_yolov4_{arch}_*-300e-*.py').bbox_head.encoder.anchors
        for arch in ('csp', 'p5', 'p6', 'p7')
    }
    assert [len(levels) for levels in anchors.values()] == [3, 3, 4, 5]
    assert anchors['p6'] == [  # of yolov4-p6.cfg
        [(13, 17), (31, 25), (24, 51), (61, 45)],
        [(61, 45), (48, 102), (119, 96), (97, 189)],
        [(97, 189), (217, 184), (171, 384), (324, 451)],
        [(324, 451), (545, 357), (616, 618), (1024, 1024)],
    ]
    voc, coco = (recipe(ssd_pattern(300, data)).bbox_head.encoder for data in ('voc0712', 'coco'))
    assert (voc.min_sizes[0], coco.min_sizes[0]) == (30, 21)
