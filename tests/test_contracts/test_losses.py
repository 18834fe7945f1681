"""Contract of every loss term."""

import copy

import pytest
import torch
from torch.utils._pytree import tree_map

from mmdet_losses.registry import MODELS
from tests.case_inputs import NoHostCopies
from tests.cases import LOSSES

pytestmark = pytest.mark.parametrize('name', sorted(LOSSES))


@pytest.fixture(name='case')
def _case(name):
    return LOSSES[name]


@pytest.fixture(name='generator')
def _generator():
    return torch.Generator().manual_seed(7)


def as_dtype(inputs: dict, dtype: torch.dtype) -> dict:
    """Float64 tensors in another precision."""
    return tree_map(
        lambda x: x.to(dtype) if isinstance(x, torch.Tensor) and x.dtype == torch.float64 else x,
        inputs,
    )


def with_gradients(case, inputs: dict) -> list[torch.Tensor]:
    return [inputs[name].requires_grad_() for name in case.wrt]


def test_gradient_equals_numerical_differences(case, generator):
    term, inputs = MODELS.build(case.config), case.inputs(generator)
    leaves = with_gradients(case, inputs)

    def value(*changed):
        return term(**{**inputs, **dict(zip(case.wrt, changed, strict=True))})

    assert torch.autograd.gradcheck(value, leaves)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('size', [1.0, 12.0, 104.0])
def test_half_precision_is_finite_and_computed_in_float32(case, generator, dtype, size):
    term, exact = MODELS.build(case.config), case.inputs(generator)
    for name in case.wrt:
        exact[name] = (exact[name].sign() * size).to(dtype).double()
    value = term(**as_dtype(exact, torch.float64))
    half = as_dtype(exact, torch.float32)
    for name in case.wrt:
        half[name] = half[name].to(dtype)
    leaves = with_gradients(case, half)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = term(**half)
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(leaf.grad.isfinite().all() for leaf in leaves)
    torch.testing.assert_close(loss.double(), value, rtol=1e-3, atol=1e-6)


def test_without_objects_the_loss_is_finite_and_keeps_the_graph(case, generator):
    term, inputs = MODELS.build(case.config), case.empty(generator)
    leaves = with_gradients(case, inputs)
    loss = term(**inputs)
    loss.backward()
    assert loss.isfinite()
    assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in leaves)


def test_inputs_are_not_modified(case, generator):
    term, inputs = MODELS.build(case.config), case.inputs(generator)
    before = copy.deepcopy(inputs)
    leaves = with_gradients(case, inputs)
    term(**inputs).backward()
    assert all(leaf.grad is not None for leaf in leaves)
    for name, value in before.items():
        torch.testing.assert_close(_plain(inputs[name]), value, rtol=0, atol=0)


def _plain(value):
    return tree_map(lambda x: x.detach() if isinstance(x, torch.Tensor) else x, value)


def test_loss_weight_scales(case, generator):
    inputs = case.inputs(generator)
    one = MODELS.build({**case.config, 'loss_weight': 1.0})(**inputs)
    three = MODELS.build({**case.config, 'loss_weight': 3.0})(**inputs)
    torch.testing.assert_close(three, 3 * one)


def test_captures_as_one_graph(case, generator):
    term, inputs = MODELS.build(case.config), as_dtype(case.inputs(generator), torch.float32)
    torch._dynamo.reset()  # the recompile limit includes the captures of other cases
    compiled = torch.compile(lambda kwargs: term(**kwargs), backend='eager', fullgraph=True)
    torch.testing.assert_close(compiled(inputs), term(**inputs), rtol=1e-5, atol=1e-6)


def test_the_device_is_not_synchronised(case, generator):
    """Meta tensors have no values, so reading one raises, and mixing devices raises as well.

    Tensors made on the host would be copied to the device, which synchronises too.
    """
    term, inputs = MODELS.build(case.config), as_dtype(case.inputs(generator), torch.float32)
    on_meta = tree_map(lambda x: x.to('meta') if isinstance(x, torch.Tensor) else x, inputs)
    leaves = with_gradients(case, on_meta)
    term = term.to('meta')
    with NoHostCopies():
        loss = term(**on_meta)
        loss.backward()
    assert all(leaf.grad.device.type == 'meta' for leaf in leaves)
