"""Corner pools: equal to a loop, gradients, ONNX export."""

import io
import itertools

import pytest
import torch
from torch import Tensor

from mmdet_losses.networks import (
    BottomPool,
    CenterPooling,
    CornerPooling,
    LeftPool,
    RightPool,
    TopPool,
)
from mmdet_losses.networks.corner_pool import doubling_max

# Pool -> (axis, first index, step) of its loop.
POOLS = {TopPool: (2, -1, -1), LeftPool: (3, -1, -1), BottomPool: (2, 0, 1), RightPool: (3, 0, 1)}


def loop(x: Tensor, axis: int, start: int, step: int) -> Tensor:
    """One line after the other, with the maximum so far."""
    lines = list(x.unbind(axis))
    order = range(len(lines))[::step]
    for before, here in itertools.pairwise(order):
        lines[here] = torch.maximum(lines[here], lines[before])
    return torch.stack(lines, axis)


@pytest.mark.parametrize('size', [(1, 1), (1, 7), (5, 1), (8, 16), (13, 10)])
@pytest.mark.parametrize('pool', POOLS, ids=lambda pool: pool.__name__)
def test_pools_equal_a_loop_over_the_lines(pool, size):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    copy = x.clone()
    assert torch.equal(pool()(x), loop(x, *POOLS[pool]))
    assert torch.equal(x, copy)


@pytest.mark.parametrize('pool', POOLS, ids=lambda pool: pool.__name__)
def test_pool_gradients(pool):
    x = torch.randn(2, 2, 5, 4, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(pool(), x.requires_grad_())


@pytest.mark.parametrize('form', ['running', 'doubling'])
@pytest.mark.parametrize('pool', POOLS, ids=lambda pool: pool.__name__)
def test_the_gradient_of_each_output_is_used_once_with_ties(pool, form):
    layer = pool()
    x = torch.randint(0, 3, (1, 2, 9, 6), generator=torch.Generator().manual_seed(2)).double()
    x.requires_grad_()
    pooled = layer(x) if form == 'running' else doubling_max(x, layer.dim, layer.reverse)
    weight = torch.rand(pooled.shape, dtype=torch.double)
    (pooled * weight).sum().backward()
    assert (x.grad >= 0).all()
    # The gradients of a line of outputs sum to those of the line of inputs ...
    assert torch.allclose(x.grad.sum(layer.dim), weight.sum(layer.dim))
    # ... and only cells that equal their pooled maximum get one.
    is_running_maximum = x == pooled
    assert (x.grad[~is_running_maximum] == 0).all()


@pytest.mark.parametrize('size', [1, 2, 7, 8, 33])
@pytest.mark.parametrize('pool', POOLS, ids=lambda pool: pool.__name__)
def test_the_export_form_has_identical_values(pool, size, monkeypatch):
    x = torch.randn(1, 2, size, size, generator=torch.Generator().manual_seed(3))
    wanted = pool()(x)
    monkeypatch.setattr(torch.onnx, 'is_in_onnx_export', lambda: True)
    assert torch.equal(pool()(x), wanted)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_exact(dtype):
    x = torch.randn(1, 2, 6, 5, generator=torch.Generator().manual_seed(4)).to(dtype)
    for pool, order in POOLS.items():
        assert torch.equal(pool()(x), loop(x, *order))


def test_centre_pooling_equals_two_opposite_corner_pools_per_axis():
    torch.manual_seed(0)
    module = CenterPooling(8, pool_channels=4).eval()
    x = torch.randn(2, 8, 6, 5)
    first, second = module.branch1(x), module.branch2(x)
    column = BottomPool()(TopPool()(first))
    row = RightPool()(LeftPool()(second))
    torch.testing.assert_close(module.pooled(x), column + row)


def test_an_unknown_corner_raises():
    with pytest.raises(ValueError, match="corner='top' is unknown"):
        CornerPooling(8, 'top')


def test_pools_compile_to_one_graph():
    layers = torch.nn.Sequential(*(pool() for pool in POOLS))
    x = torch.randn(1, 2, 5, 6)
    compiled = torch.compile(layers, fullgraph=True, backend='eager')
    assert torch.equal(compiled(x), layers(x))


def test_the_export_has_standard_operators_only():
    onnx = pytest.importorskip('onnx')
    layers = torch.nn.Sequential(*(pool() for pool in POOLS)).eval()
    x = torch.randn(1, 2, 13, 10)
    file = io.BytesIO()
    torch.onnx.export(layers, (x,), file, dynamo=False, opset_version=13)
    model = onnx.load_from_string(file.getvalue())
    onnx.checker.check_model(model)
    assert {node.domain for node in model.graph.node} == {''}
    runtime = pytest.importorskip('onnxruntime')
    session = runtime.InferenceSession(file.getvalue(), providers=['CPUExecutionProvider'])
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert torch.equal(torch.from_numpy(got), layers(x))
