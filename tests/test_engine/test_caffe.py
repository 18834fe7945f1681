"""Caffe's SGD against its formula and against torch's SGD."""

import pytest
import torch

from mmdet_losses.registry import OPTIMIZERS


def run(kind, rates, gradients, momentum=0.9, weight_decay=0.1):
    """Weights after every update, starting from 1."""
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    options = dict(lr=rates[0], momentum=momentum, weight_decay=weight_decay)
    optimizer = OPTIMIZERS.build(dict(type=kind, params=[weight], **options))
    found = []
    for rate, gradient in zip(rates, gradients, strict=True):
        optimizer.param_groups[0]['lr'] = rate
        weight.grad = gradient.clone()
        optimizer.step()
        found.append(weight.detach().clone())
    return torch.stack(found)


@pytest.fixture
def gradients():
    return torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_the_velocity_contains_the_rate(gradients):
    rates = (1e-2, 1e-2, 1e-2, 1e-3, 1e-3, 0.0)
    weight, velocity = torch.ones(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    expected = []
    for rate, gradient in zip(rates, gradients, strict=True):
        velocity = 0.9 * velocity + rate * (gradient + 0.1 * weight)
        weight = weight - velocity
        expected.append(weight)
    torch.testing.assert_close(run('CaffeSGD', rates, gradients), torch.stack(expected))


def test_it_equals_sgd_until_the_rate_changes(gradients):
    constant, drop = [1e-2] * 6, [1e-2] * 3 + [1e-3] * 3
    torch.testing.assert_close(
        run('CaffeSGD', constant, gradients), run('SGD', constant, gradients)
    )
    caffe, torchs = run('CaffeSGD', drop, gradients), run('SGD', drop, gradients)
    torch.testing.assert_close(caffe[:3], torchs[:3])
    assert (caffe[3:] - torchs[3:]).abs().min() > 1e-4


def test_parameters_without_gradient_are_skipped_and_the_velocity_is_saved(gradients):
    used, unused = (torch.ones(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizer = OPTIMIZERS.build(dict(type='CaffeSGD', params=[used, unused], lr=0.1))
    used.grad = gradients[0]
    assert optimizer.step(lambda: 3.0) == 3.0
    assert torch.equal(unused, torch.ones(3, dtype=torch.float64))
    again = OPTIMIZERS.build(dict(type='CaffeSGD', params=[used, unused], lr=0.1))
    again.load_state_dict(optimizer.state_dict())
    before = used.detach().clone()
    used.grad = torch.zeros(3, dtype=torch.float64)
    again.step()
    torch.testing.assert_close(before - used.detach(), 0.09 * gradients[0])
