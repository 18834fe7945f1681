"""Darknet's cfg files as a backbone: layers equal the obvious code, errors name the line."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmdet_losses.detectors.yolo.darknet_cfg import CfgError, layer_table, parse_cfg
from mmdet_losses.networks.darknet_from_cfg import DarknetFromCfg, DarknetMaxPool

CFG = """
[net]
width=64
[convolutional]
batch_normalize=1
filters=8
size=3
pad=1
activation=mish
[route]
layers=-1
groups=2
group_id=1
[convolutional]
filters=4
size=3
pad=1
groups=4
activation=leaky
[shortcut]
from=1
activation=relu
[maxpool]
size=2
stride=2
[upsample]
[sam]
from=-3
[avgpool]
[scale_channels]
from=3
[route]
layers=-1,0
[convolutional]
filters=6
activation=linear
[yolo]
"""


def network(text: str = CFG) -> DarknetFromCfg:
    torch.manual_seed(0)
    return DarknetFromCfg(layer_table(parse_cfg(text)), size=(16, 24)).eval()


def test_outputs_equal_the_layers_written_out() -> None:
    net, x = network(), torch.randn(2, 3, 16, 24)
    layers = net.layers
    first = F.mish(layers[0].layer(x))
    half = first[:, 4:]
    conv = F.leaky_relu(layers[2].layer(half), 0.1)
    added = F.relu(conv + half)
    pooled = F.max_pool2d(F.pad(added, (0, 1, 0, 1), value=float('-inf')), 2, 2)
    attended = F.interpolate(pooled, scale_factor=2) * added
    scaled = added * attended.mean((2, 3), keepdim=True)
    expected = layers[10].layer(torch.cat([scaled, first], 1))
    (got,) = net(x)
    torch.testing.assert_close(got, expected)
    assert got.shape == (2, 6, 16, 24)


@pytest.mark.parametrize(
    ('size', 'stride', 'padding', 'expected'),
    [(2, 2, 1, (4, 3)), (2, 1, 1, (8, 6)), (5, 1, 4, (8, 6)), (3, 2, 2, (4, 3))],
)
def test_max_pools_equal_a_loop(size: int, stride: int, padding: int, expected: tuple) -> None:
    x = torch.randn(1, 1, 8, 6)
    got = DarknetMaxPool(size, stride, padding)(x)[0, 0]
    assert tuple(got.shape) == expected
    start = -(padding // 2)
    for row in range(expected[0]):
        for column in range(expected[1]):
            rows = [
                y for y in range(start + row * stride, start + row * stride + size) if 0 <= y < 8
            ]
            columns = [
                c
                for c in range(start + column * stride, start + column * stride + size)
                if 0 <= c < 6
            ]
            assert got[row, column] == x[0, 0][rows][:, columns].max()


def test_connected_and_local_layers_have_the_size_of_the_image() -> None:
    text = """[net]
[local]
filters=2
size=3
pad=1
activation=leaky
[dropout]
[connected]
output=5
activation=linear
[detection]
"""
    net = network(text)
    assert net.layers[0].layer.feat_size == (16, 24)
    assert net(torch.zeros(1, 3, 16, 24))[0].shape == (1, 5, 1, 1)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('[net]\n[crnn]\n', r'\[crnn\] \(layer 0\), line 2: this type of layer is not supported'),
        (
            '[net]\n[convolutional]\nfilters=2\nxnor=1\n',
            r'\[convolutional\] \(layer 0\), option xnor=1, line 4: this option is not supported',
        ),
        ('[net]\n[convolutional]\nfilters=2.5\n', r'option filters=2\.5, line 3: .* an integer'),
        (
            '[net]\n[convolutional]\nactivation=loud\n',
            r'option activation=loud, line 3: choose one',
        ),
        (
            '[net]\n[route]\nlayers=-1\n',
            r'option layers=-1, line 3: give numbers of earlier layers',
        ),
        ('[net]\n[reorg]\nstride=4\n', r'option stride=4, line 3: only stride=2'),
        ('[net]\nbatch\n', r'Line 2 is no option of a section'),
        ('[yolo]\n', r'does not start with \[net\]'),
    ],
)
def test_what_a_table_does_not_express_names_section_option_and_line(text, message) -> None:
    with pytest.raises(CfgError, match=message) as caught:
        layer_table(parse_cfg(text))
    assert '\n' not in str(caught.value)


def test_a_table_without_a_detection_layer_raises() -> None:
    with pytest.raises(ValueError, match='no detection layer'):
        DarknetFromCfg([dict(type='avgpool')])


HEADS = """
[net]
[convolutional]
batch_normalize=1
filters=4
size=3
pad=1
activation=leaky
[maxpool]
size=2
stride=1
[convolutional]
filters=14
activation=linear
[yolo]
mask=0,1
classes=2
num=2
[route]
layers=1
[convolutional]
filters=14
activation=linear
[yolo]
mask=0,1
classes=2
num=2
"""


def test_a_checkpoint_of_other_classes_keeps_its_boxes_and_objectness() -> None:
    table = layer_table(parse_cfg(HEADS))
    official, ours = DarknetFromCfg(table), DarknetFromCfg(table, num_classes=3)
    initial = ours.layers[2].layer.conv.weight.detach().unflatten(0, (2, 8)).clone()
    ours.load_state_dict(official.state_dict())
    weight = ours.layers[2].layer.conv.weight.unflatten(0, (2, 8))
    assert torch.equal(
        weight[:, :5], official.layers[2].layer.conv.weight.unflatten(0, (2, 7))[:, :5]
    )
    assert torch.equal(weight[:, 5:], initial[:, 5:])
    assert torch.equal(ours.layers[0].layer.conv.weight, official.layers[0].layer.conv.weight)
    again = DarknetFromCfg(table, num_classes=3)
    again.load_state_dict(ours.state_dict())
    assert torch.equal(again.layers[5].layer.conv.weight, ours.layers[5].layer.conv.weight)
    with pytest.raises(RuntimeError, match='size mismatch'):
        DarknetFromCfg(table).load_state_dict(ours.state_dict())


def test_classes_need_anchors_in_the_table() -> None:
    with pytest.raises(ValueError, match=r'num_classes=3 needs a convolution before layer 1'):
        DarknetFromCfg([dict(type='avgpool'), dict(type='yolo')], num_classes=3)


@pytest.mark.parametrize(
    'row', [dict(type='sam', layers=[0]), dict(type='route', layers=[0, 1], activation='linear')]
)
def test_layers_that_do_not_fit_raise(row) -> None:
    table = [
        dict(type='convolutional', filters=4, size=3, activation='leaky'),
        dict(type='maxpool', size=2, stride=2, padding=1),
        row,
        dict(type='yolo'),
    ]
    with pytest.raises(ValueError, match=rf'layer 2 \({row["type"]}\) .* they do not fit'):
        DarknetFromCfg(table)


def test_onnx_runtime_computes_the_same(tmp_path) -> None:
    pytest.importorskip('onnx')
    runtime = pytest.importorskip('onnxruntime')
    net, x = network(), torch.randn(1, 3, 16, 24)
    path = str(tmp_path / 'net.onnx')
    torch.onnx.export(net, (x,), path, input_names=['image'], dynamo=False)
    session = runtime.InferenceSession(path, providers=['CPUExecutionProvider'])
    for got, want in zip(session.run(None, {'image': x.numpy()}), net(x), strict=True):
        torch.testing.assert_close(torch.from_numpy(got), want.detach(), rtol=1e-4, atol=1e-5)
