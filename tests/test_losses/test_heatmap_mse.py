"""Squared error of heatmaps."""

from __future__ import annotations

import pytest
import torch

from mmdet_losses.losses import heatmap_mse_loss
from mmdet_losses.ops import Splats
from tests.case_inputs import heatmap_target, splats_of


@pytest.mark.parametrize('weighted', [False, True])
def test_splats_and_dense_target_give_the_same_loss_and_gradient(weighted):
    target = heatmap_target()
    pred = torch.randn(target.shape, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(target.shape).double() if weighted else None
    target = target.float().double()
    wants = (pred - target).square()
    want = (wants if weight is None else wants * weight).mean()
    for each in (target, splats_of(target)):
        have = heatmap_mse_loss(pred, each, weight)
        torch.testing.assert_close(have, want)
        torch.testing.assert_close(
            *(torch.autograd.grad(x, pred, retain_graph=True)[0] for x in (have, want))
        )


def test_padding_of_splats_has_no_effect():
    splats = splats_of(heatmap_target())
    zeros = splats.index.new_zeros(9)
    padded = Splats(
        torch.cat((splats.index, zeros)), torch.cat((splats.value, zeros.float())), splats.shape
    )
    pred = torch.randn(splats.shape)
    assert torch.equal(heatmap_mse_loss(pred, padded), heatmap_mse_loss(pred, splats))


def test_a_perfect_map_costs_nothing():
    """Splats are subtracted cell by cell, so no precision is lost in differences of sums."""
    target = heatmap_target().float()
    assert heatmap_mse_loss(target, splats_of(target)) == 0
    assert heatmap_mse_loss(target + 1e-4, splats_of(target)) == pytest.approx(1e-8, rel=1e-3)


def test_activated_false_applies_a_sigmoid():
    target = heatmap_target().float()
    logits = torch.randn(target.shape)
    torch.testing.assert_close(
        heatmap_mse_loss(logits, target, activated=False),
        heatmap_mse_loss(logits.sigmoid(), target),
    )


def test_shapes_must_agree():
    with pytest.raises(ValueError, match='the same num_classes and stride'):
        heatmap_mse_loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 4, 4))
