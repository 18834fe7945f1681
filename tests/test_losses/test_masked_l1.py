"""L1 over the slots that hold an object."""

from __future__ import annotations

import math

import pytest
import torch

from mmdet_losses.losses import MaskedL1Loss, masked_l1_loss
from mmdet_losses.ops import gather_cells
from mmdet_losses.registry import MODELS


def test_equals_a_loop_over_objects():
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.randn((2, 3, 6, 2), generator=generator)
    mask = torch.rand((3, 6), generator=generator) > 0.5
    pred.requires_grad_()
    total = sum((pred[b, m] - target[b, m]).abs().sum() for b, m in mask.nonzero().tolist())
    want = total / (2 * mask.sum() + 1e-4)
    have = masked_l1_loss(pred, target, mask, avg_factor=2 * mask.sum() + 1e-4)
    torch.testing.assert_close(have, want)
    torch.testing.assert_close(*(torch.autograd.grad(each, pred)[0] for each in (have, want)))


def test_nan_in_a_cell_of_empty_slots_has_no_effect():
    """In the official code, which multiplies by a mask, the loss is NaN."""
    feature = torch.ones(1, 2, 2, 2)
    feature[0, :, 0, 0] = math.nan
    feature.requires_grad_()
    index, mask = torch.tensor([[3, 0]]), torch.tensor([[True, False]])
    pred = gather_cells(feature, index)
    loss = masked_l1_loss(pred, torch.zeros(1, 2, 2), mask, avg_factor=2.0)
    loss.backward()
    assert float(loss.detach()) == 1
    assert feature.grad.flatten(2).tolist() == [[[0, 0, 0, 0.5], [0, 0, 0, 0.5]]]


def test_a_cell_that_is_read_twice_gets_both_gradients():
    feature = torch.ones(1, 1, 2, 2, requires_grad=True)
    index, mask = torch.tensor([[2, 2]]), torch.tensor([[True, True]])
    pred = gather_cells(feature, index)
    masked_l1_loss(pred, torch.zeros(1, 2, 1), mask, reduction='sum').backward()
    assert feature.grad.flatten().tolist() == [0, 0, 2, 0]


def test_mean_divides_exactly_by_the_number_of_masked_values():
    mask = torch.tensor([[[True, True], [True, False]]])
    loss = masked_l1_loss(torch.full((1, 2, 2), 5.0), torch.zeros(1, 2, 2), mask)
    assert float(loss) == 5
    empty = masked_l1_loss(torch.ones(1, 2, 2), torch.zeros(1, 2, 2), mask & False)
    assert float(empty) == 0


def test_reduction_none_keeps_the_shape():
    mask = torch.tensor([[True, False]])
    loss = masked_l1_loss(torch.ones(1, 2, 3), torch.zeros(1, 2, 3), mask, reduction='none')
    assert loss.tolist() == [[[1, 1, 1], [0, 0, 0]]]


def test_module_and_alias_equal_the_function():
    built = MODELS.build({'type': 'RegL1Loss', 'loss_weight': 0.1})
    assert isinstance(built, MaskedL1Loss)
    pred, target = torch.randn(2, 1, 4, 2)
    mask = torch.tensor([[True, False, True, True]])
    assert torch.equal(built(pred, target, mask), 0.1 * masked_l1_loss(pred, target, mask))
    with pytest.raises(ValueError, match="reduction='average' is unknown"):
        MODELS.build({'type': 'MaskedL1Loss', 'reduction': 'average'})
