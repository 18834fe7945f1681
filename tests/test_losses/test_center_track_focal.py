"""CenterTrack's focal loss counts positives per object."""

from __future__ import annotations

import math

import pytest
import torch

from mmdet_losses.losses import (
    CenterTrackFocalLoss,
    center_track_focal_loss,
    penalty_reduced_focal_loss,
)
from mmdet_losses.registry import MODELS
from tests.case_inputs import splats_of


def batch(seed: int = 0, dtype: torch.dtype = torch.float64) -> dict:
    """Two images, three classes; two objects of image 0 share class and cell."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand((2, 3, 5, 7), generator=generator, dtype=dtype)
    target = torch.where(target > 0.7, target * 0.9, 0)
    index = torch.tensor([[9, 9, 30, 0], [34, 0, 0, 0]])
    labels = torch.tensor([[1, 1, 0, 0], [2, 0, 0, 0]])
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    for image in range(2):
        for row in range(4):
            if mask[image, row]:
                target[image, labels[image, row]].view(-1)[index[image, row]] = 1
    return {
        'pred': 3 * torch.randn((2, 3, 5, 7), generator=generator, dtype=dtype),
        'target': target,
        'index': index,
        'labels': labels,
        'mask': mask,
    }


def by_loop(pred, target, index, labels, mask, weight=None, clamp=None):
    """Cell by cell, object by object."""
    score = pred.sigmoid()
    if clamp is not None:
        score = score.clamp(clamp, 1 - clamp)
    total = pred.new_zeros(())
    for cell in torch.cartesian_prod(*(torch.arange(side) for side in pred.shape)).tolist():
        p, t = score[tuple(cell)], target[tuple(cell)]
        factor = 1 if weight is None else weight[tuple(cell)]
        total = total - factor * (1 - t) ** 4 * p**2 * torch.log(1 - p)
    objects = 0
    for image, row in mask.nonzero().tolist():
        p = score[image, labels[image, row]].flatten()[index[image, row]]
        total = total - (1 - p) ** 2 * torch.log(p)
        objects += 1
    return total / max(objects, 1)


@pytest.mark.parametrize('sparse', [False, True])
@pytest.mark.parametrize('clamp', [None, 1e-4])
@pytest.mark.parametrize('weighted', [False, True])
def test_equals_a_loop_over_cells_and_objects(sparse, clamp, weighted):
    inputs = batch()
    inputs['target'] = inputs['target'].float().double()  # splats are float32
    weight = torch.rand(inputs['pred'].shape).double().round() if weighted else None
    pred = inputs['pred'].requires_grad_()
    want = by_loop(**inputs, weight=weight, clamp=clamp)
    (want_grad,) = torch.autograd.grad(want, pred)
    if sparse:
        inputs['target'] = splats_of(inputs['target'])
    have = center_track_focal_loss(**inputs, weight=weight, clamp=clamp)
    (have_grad,) = torch.autograd.grad(have, pred)
    # The float32 bounds of the clamp are 2e-5 away from the float64 ones of the loop.
    rtol = 1e-6 if clamp is None else 5e-5
    torch.testing.assert_close(have, want, rtol=rtol, atol=0)
    torch.testing.assert_close(have_grad, want_grad, rtol=rtol, atol=1e-9)


def test_two_objects_in_one_cell_count_twice():
    """With p = 0.3 everywhere: 2.628 as in the official code, 4.667 for the loss per cell."""
    pred = torch.full((1, 1, 4, 4), math.log(0.3 / 0.7), dtype=torch.float64)
    target = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    target[0, 0, 1, 1] = 1
    index, labels = torch.tensor([[5, 5]]), torch.tensor([[0, 0]])
    mask = torch.tensor([[True, True]])
    positive, negative = -(0.7**2) * math.log(0.3), -(0.3**2) * math.log(0.7)
    by_object = center_track_focal_loss(pred, target, index, labels, mask)
    by_cell = penalty_reduced_focal_loss(pred, target)
    assert float(by_object) == pytest.approx((2 * positive + 15 * negative) / 2)
    assert float(by_cell) == pytest.approx(positive + 15 * negative)


def test_a_target_of_one_without_an_object_is_ignored():
    inputs = batch()
    pred = inputs['pred'].requires_grad_()
    inputs['target'][1, 0, 2, 3] = 1
    (grad,) = torch.autograd.grad(center_track_focal_loss(**inputs), pred)
    assert abs(grad[1, 0, 2, 3]) < 1e-20
    assert abs(grad[1, 0, 2, 2]) > 1e-6


def test_without_objects_the_sum_is_undivided():
    inputs = batch()
    inputs['mask'][:] = False
    mean = center_track_focal_loss(**inputs)
    assert torch.equal(mean, center_track_focal_loss(**inputs, reduction='sum'))
    assert mean > 0


@pytest.mark.parametrize('size', [20.0, 104.0])
def test_a_confidently_wrong_object_keeps_its_gradient_unless_clamped(size):
    pred = torch.full((1, 1, 2, 2), -size, requires_grad=True)
    target = torch.tensor([[[[1.0, 0], [0, 0]]]])
    zero, true = torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1, dtype=torch.bool)
    (free,) = torch.autograd.grad(center_track_focal_loss(pred, target, zero, zero, true), pred)
    official = center_track_focal_loss(pred, target, zero, zero, true, clamp=1e-4)
    (clamped,) = torch.autograd.grad(official, pred)
    assert free[0, 0, 0, 0] < -0.5
    assert clamped[0, 0, 0, 0] == 0
    assert float(official.detach()) == pytest.approx(-math.log(1e-4), rel=1e-3)


def test_module_and_alias_equal_the_function():
    inputs = batch()
    built = MODELS.build({'type': 'FastFocalLoss', 'loss_weight': 2.0, 'clamp': 1e-4})
    assert isinstance(built, CenterTrackFocalLoss)
    assert torch.equal(built(**inputs), 2 * center_track_focal_loss(**inputs, clamp=1e-4))
    assert torch.equal(
        built(**inputs, avg_factor=3.0),
        2 * center_track_focal_loss(**inputs, clamp=1e-4, reduction='sum') / 3.0,
    )


def test_reduction_none_raises():
    with pytest.raises(ValueError, match="reduction='none' has no single shape"):
        center_track_focal_loss(**batch(), reduction='none')
