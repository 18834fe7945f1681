"""Smooth L1 over the slots that hold an object."""

import math

import pytest
import torch
import torch.nn.functional as F

from mmdet_losses.losses import masked_smooth_l1_loss

PRED = torch.tensor([[[2.0, 0.5], [-3.0, 1.0]], [[9.0, 9.0], [0.0, 0.25]]])
MASK = torch.tensor([[True, True], [False, True]])


@pytest.mark.parametrize('beta', [1.0, 0.25])
def test_equals_smooth_l1_of_the_chosen_slots(beta):
    target = torch.zeros_like(PRED)
    have = masked_smooth_l1_loss(PRED, target, MASK, beta=beta, reduction='sum')
    want = F.smooth_l1_loss(PRED[MASK], target[MASK], beta=beta, reduction='sum')
    torch.testing.assert_close(have, want)


def test_divides_by_avg_factor():
    target = torch.zeros_like(PRED)
    total = masked_smooth_l1_loss(PRED, target, MASK, reduction='sum')
    mean = masked_smooth_l1_loss(PRED, target, MASK)
    torch.testing.assert_close(mean * 6, total)
    divided = masked_smooth_l1_loss(PRED, target, MASK, avg_factor=MASK.sum() + 1e-4)
    torch.testing.assert_close(divided * 3.0001, total)


def test_nan_in_empty_slots_has_no_effect():
    pred = PRED.masked_fill(~MASK[..., None], math.nan).requires_grad_()
    loss = masked_smooth_l1_loss(pred, torch.zeros_like(PRED), MASK)
    loss.backward()
    assert loss.isfinite()
    assert pred.grad[~MASK].eq(0).all()
    assert pred.grad.isfinite().all()
