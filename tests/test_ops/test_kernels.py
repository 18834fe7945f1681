"""Fused kernels against the eager formulas that define them: values and gradients."""

import math

import pytest
import torch
import torch.nn.functional as F

from mmdet_losses.losses import penalty_reduced_focal_loss, sigmoid_focal_loss
from mmdet_losses.ops import Splats, flatten_levels
from mmdet_losses.ops.kernels import (
    chosen_cross_entropy,
    class_focal_cost,
    class_focal_sum,
    focal_cost,
    focal_cost_and_slope,
    heatmap_focal_cost,
    heatmap_focal_sums,
)
from mmdet_losses.ops.kernels.focal import BackgroundFocal
from tests.case_inputs import heatmap_target, splats_of

EXPONENTS = [2.0, 1.5, 0.5]


def normal(*shape: int, scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn(shape, dtype=torch.float64, generator=torch.manual_seed(0))


def assert_same(have_of, want_of, leaf: torch.Tensor) -> None:
    """Two functions of one leaf have the same value and gradient."""
    results = []
    for function in (have_of, want_of):
        x = leaf.clone().requires_grad_()
        value = function(x)
        scale = torch.arange(1.0, value.numel() + 1, dtype=value.dtype).view(value.shape)
        results.append((value.detach(), torch.autograd.grad((scale * value).sum(), x)[0]))
    for have, want in zip(*results, strict=True):
        torch.testing.assert_close(have, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('exponent', EXPONENTS)
def test_focal_slope_is_the_derivative_of_the_cost(exponent):
    x = normal(50).requires_grad_()
    cost, slope = focal_cost_and_slope(x.detach(), exponent)
    want = focal_cost(x, exponent)
    torch.testing.assert_close(cost, want.detach())
    torch.testing.assert_close(slope, torch.autograd.grad(want.sum(), x)[0])


@pytest.mark.parametrize('exponent', EXPONENTS)
@pytest.mark.parametrize('logit', [-120.0, -700.0, 120.0])
def test_focal_cost_of_extreme_logits_has_a_finite_gradient(exponent, logit):
    x = torch.tensor(logit, requires_grad=True)
    cost = focal_cost(x, exponent)
    cost.backward()
    assert cost.isfinite() and x.grad.isfinite()
    assert float(x.grad) == pytest.approx(float(logit > 0), abs=1e-6)


@pytest.mark.parametrize('chunk', [7, 1 << 16])
@pytest.mark.parametrize('bounds', [None, (-2.0, 1.5)])
@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('sparse', [False, True])
@pytest.mark.parametrize('alpha, beta', [(2.0, 4.0), (1.5, 3.0), (0.5, 0.5)])
def test_heatmap_sums_equal_the_reference(
    monkeypatch, alpha, beta, sparse, weighted, bounds, chunk
):
    module = 'mmdet_losses.ops.kernels.heatmap_focal'
    monkeypatch.setattr(f'{module}._chunk_size', lambda x: chunk)
    dense = heatmap_target().float().double()
    weight = normal(*dense.shape).abs() if weighted else None
    target = splats_of(dense) if sparse else dense

    def reference(x: torch.Tensor) -> torch.Tensor:
        x = x if bounds is None else x.clamp(*bounds)
        cost = heatmap_focal_cost(x, dense, alpha, beta)
        return (cost if weight is None else cost * weight).flatten(1).sum(1)

    assert_same(
        lambda x: heatmap_focal_sums(x, target, weight, alpha, beta, bounds),
        reference,
        normal(*dense.shape),
    )


def test_the_reference_is_the_formula_of_the_loss():
    dense = heatmap_target()
    assert_same(
        lambda x: penalty_reduced_focal_loss(x, dense, reduction='none'),
        lambda x: heatmap_focal_cost(x, dense, 2.0, 4.0),
        normal(*dense.shape),
    )
    labels = torch.tensor([0, 3, 2, 1, 3])
    assert_same(
        lambda x: sigmoid_focal_loss(x, labels, reduction='none'),
        lambda x: class_focal_cost(x, labels, 0.25, 2.0),
        normal(5, 3),
    )


def test_heatmap_sums_of_rows_are_one_image():
    dense, x = heatmap_target()[0].flatten(1).t(), normal(80, 3)
    have = heatmap_focal_sums(x, dense, None, 2.0, 4.0, None)
    torch.testing.assert_close(have, heatmap_focal_cost(x, dense, 2.0, 4.0).sum()[None])


def test_padding_splats_have_no_effect():
    splats = splats_of(heatmap_target())
    index = torch.cat((splats.index, splats.index.new_zeros(5)))
    value = torch.cat((splats.value, splats.value.new_zeros(5)))
    x = normal(*splats.shape)
    x[0, 0, 0, 0] = math.inf  # padding points at this cell
    args = (None, 2.0, 4.0, (-5.0, 5.0))
    torch.testing.assert_close(
        heatmap_focal_sums(x, Splats(index, value, splats.shape), *args),
        heatmap_focal_sums(x, splats, *args),
    )


@pytest.mark.parametrize('gamma', EXPONENTS)
@pytest.mark.parametrize('columns', [None, 1, 3])
def test_class_sum_equals_the_reference(gamma, columns):
    labels = torch.randint(4, (2, 30), generator=torch.manual_seed(1))
    weight = None if columns is None else normal(2, 30, columns).abs()

    def reference(x: torch.Tensor) -> torch.Tensor:
        cost = class_focal_cost(x, labels, 0.3, gamma)
        return (cost if weight is None else cost * weight).sum()

    assert_same(
        lambda x: class_focal_sum(x, labels, weight, 0.3, gamma), reference, normal(2, 30, 3)
    )


@pytest.mark.parametrize('chunk', [7, 1 << 17])
@pytest.mark.parametrize('weighted', [False, True])
def test_class_sum_of_maps_equals_the_sum_of_their_list(monkeypatch, weighted, chunk):
    monkeypatch.setattr('mmdet_losses.ops.kernels.class_focal.CHUNK', chunk)
    sizes = [(2, 6, 4, 3), (2, 6, 1, 2)]  # 2 anchors per cell, 3 classes
    labels = torch.randint(4, (2, 28), generator=torch.manual_seed(1))
    weight = torch.rand(2, 28, generator=torch.manual_seed(2)).round() * 0.5 if weighted else None

    def maps(x: torch.Tensor) -> list[torch.Tensor]:
        return [x[:, :72].reshape(sizes[0]), x[:, 72:].reshape(sizes[1])]

    def reference(x: torch.Tensor) -> torch.Tensor:
        cost = class_focal_cost(flatten_levels(maps(x), 3), labels, 0.3, 2.0)
        return (cost if weight is None else cost * weight[..., None]).sum() / 5

    def loss(x: torch.Tensor) -> torch.Tensor:
        options = dict(alpha=0.3, avg_factor=torch.tensor(5.0))
        return sigmoid_focal_loss(maps(x), labels, weight, **options)

    assert_same(loss, reference, normal(2, 84))


@pytest.mark.parametrize('factor', [1.0, 3.0])
def test_focal_slopes_survive_a_backward_pass_of_a_retained_graph(factor):
    splats = splats_of(heatmap_target())
    x = normal(*splats.shape).float().requires_grad_()
    labels = torch.zeros(splats.shape[:3], dtype=torch.long)
    for loss in (
        penalty_reduced_focal_loss(x, splats),
        sigmoid_focal_loss(x, labels, avg_factor=4.0),
    ):
        first, second = (
            torch.autograd.grad(factor * loss, x, retain_graph=keep)[0] for keep in (True, False)
        )
        torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_background_focal_of_high_logits_equals_the_reference():
    """Above a limit the fast formula would overflow in float32."""
    for logits in (torch.linspace(-120, 39, 50), torch.linspace(-120, 120, 50)):
        cost, want = focal_cost_and_slope(logits, 2.0)
        slope = torch.empty_like(logits)
        total = BackgroundFocal(logits, 50, 2.0)(logits, slope, 0.5)
        torch.testing.assert_close((total, slope), (cost.sum(), 0.5 * want), rtol=3e-6, atol=1e-9)


@pytest.mark.parametrize('chunk', [7, 1 << 17])
def test_cross_entropy_equals_the_reference_where_the_gradient_is_chosen(monkeypatch, chunk):
    monkeypatch.setattr('mmdet_losses.ops.kernels.cross_entropy.CHUNK', chunk)
    label = torch.randint(4, (2, 9), generator=torch.manual_seed(2))
    chosen = torch.arange(18).view(2, 9) % 4 == 0
    assert_same(
        lambda x: chosen_cross_entropy(x, label) * chosen,
        lambda x: F.cross_entropy(x, label, reduction='none') * chosen,
        normal(2, 4, 9),
    )


@pytest.mark.parametrize('shift', [0.0, -800, 800])
def test_cross_entropy_of_far_logits_equals_the_reference(shift):
    """Exponentials overflow or underflow, also in float64."""
    label = torch.tensor([[0, 1, 2]])
    logits = torch.tensor([[[-900.0, 1e4, 0], [80, 0, 30], [1, -1e4, 25]]]).double()
    for x in (logits + shift, normal(1, 3, 3) + shift):
        assert_same(
            lambda x: chosen_cross_entropy(x, label),
            lambda x: F.cross_entropy(x, label, reduction='none'),
            x,
        )


def test_cross_entropy_of_certain_logits_is_exact():
    """A cost of 1e-6 beside logits of 30, where the logarithm of a sum is rounded to 2e-6."""
    logits = (normal(1, 5, 200) + 16).float()
    logits[:, 0] += 14
    label = torch.zeros(1, 200, dtype=torch.long)
    want = F.cross_entropy(logits.double(), label, reduction='none')
    have = chosen_cross_entropy(logits, label)
    torch.testing.assert_close(have.double(), want, rtol=1e-6, atol=3e-7)
