"""What every backbone and neck promises: gradients everywhere, inputs untouched, one graph."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mmdet_losses.registry import MODELS
from tests.cases import NETWORKS, NetworkCase

CASES = pytest.mark.parametrize('case', NETWORKS.values(), ids=NETWORKS)


def build(case: NetworkCase) -> tuple[nn.Module, Tensor | tuple[Tensor, ...]]:
    """The network and its input: a tensor for one shape, a tuple of maps for several."""
    torch.manual_seed(0)
    maps = tuple(torch.randn(2, *shape) for shape in case.shapes)
    return MODELS.build(case.config), maps if len(maps) > 1 else maps[0]


def flat(outputs: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


@CASES
def test_every_parameter_gets_a_gradient(case: NetworkCase) -> None:
    network, inputs = build(case)
    sum(each.square().sum() for each in flat(network(inputs))).backward()
    dead = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead


@CASES
def test_inputs_are_not_changed_and_images_do_not_mix(case: NetworkCase) -> None:
    network, inputs = build(case)
    network.eval()
    before = [each.clone() for each in flat(inputs)]
    with torch.no_grad():
        both = flat(network(inputs))
        assert all(torch.equal(a, b) for a, b in zip(before, flat(inputs), strict=True))
        first = flat(inputs)
        one = tuple(each[:1] for each in first)
        alone = flat(network(one if len(one) > 1 else one[0]))
    for batch, single in zip(both, alone, strict=True):
        torch.testing.assert_close(batch[:1], single, rtol=1e-4, atol=1e-5)


@CASES
def test_one_graph_captures_the_network(case: NetworkCase) -> None:
    network, inputs = build(case)
    network.eval()
    torch._dynamo.reset()
    captured = torch.compile(network, backend='eager', fullgraph=True)
    for have, want in zip(flat(captured(inputs)), flat(network(inputs)), strict=True):
        torch.testing.assert_close(have, want)
