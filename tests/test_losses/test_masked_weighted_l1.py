"""L1 with a weight per value."""

from __future__ import annotations

import math

import torch

from mmdet_losses.losses import MaskedWeightedL1Loss, masked_l1_loss, masked_weighted_l1_loss
from mmdet_losses.registry import MODELS


def test_equals_the_plain_sum_for_maps_and_slots():
    generator = torch.Generator().manual_seed(0)
    for shape in ((2, 3, 4), (2, 4, 5, 6)):
        pred, target, weight = torch.rand((3, *shape), generator=generator)
        pred.requires_grad_()
        want = (pred * weight - target * weight).abs().sum() / (weight.sum() + 1e-4)
        have = masked_weighted_l1_loss(pred, target, weight, avg_factor=weight.sum() + 1e-4)
        torch.testing.assert_close(have, want)
        torch.testing.assert_close(*(torch.autograd.grad(x, pred)[0] for x in (have, want)))


def test_weights_of_one_give_the_masked_l1():
    pred, target = torch.randn(2, 2, 5, 2)
    mask = torch.rand(2, 5) > 0.4
    assert torch.equal(
        masked_weighted_l1_loss(pred, target, mask[..., None], reduction='sum'),
        masked_l1_loss(pred, target, mask, reduction='sum'),
    )


def test_values_of_weight_zero_have_no_effect():
    pred = torch.tensor([math.nan, math.inf, 2.0], requires_grad=True)
    loss = masked_weighted_l1_loss(pred, torch.zeros(3), torch.tensor([0.0, 0.0, 0.5]))
    loss.backward()
    assert float(loss.detach()) == 2
    assert pred.grad.tolist() == [0, 0, 1]


def test_mean_divides_exactly_by_the_sum_of_weights():
    pred, weight = torch.full((4,), 3.0), torch.full((4,), 0.1)
    torch.testing.assert_close(
        masked_weighted_l1_loss(pred, torch.zeros(4), weight), torch.tensor(3.0)
    )
    assert float(masked_weighted_l1_loss(pred, torch.zeros(4), 0 * weight)) == 0


def test_module_and_alias_equal_the_function():
    built = MODELS.build({'type': 'RegWeightedL1Loss', 'loss_weight': 0.1})
    assert isinstance(built, MaskedWeightedL1Loss)
    pred, target, weight = torch.rand(3, 1, 4, 2)
    want = 0.1 * masked_weighted_l1_loss(pred, target, weight)
    assert torch.equal(built(pred, target, weight), want)
    none = built(pred, target, weight, reduction_override='none')
    torch.testing.assert_close(none, 0.1 * weight * (pred - target).abs())
