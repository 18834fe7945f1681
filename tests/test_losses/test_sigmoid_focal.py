"""Focal loss over independent classes, equal to MMDetection's FocalLoss."""

import pytest
import torch
from mmdet.models.losses import FocalLoss

from mmdet_losses.losses import SigmoidFocalLoss, sigmoid_focal_loss
from tests.case_inputs import anchor_inputs


def inputs_of(form: str, positives: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (40, 3), and labels, one-hot targets or soft targets."""
    inputs = anchor_inputs(torch.Generator().manual_seed(5), positives)
    pred, labels = inputs['pred'].flatten(0, 1), inputs['target'].flatten()
    hot = torch.nn.functional.one_hot(labels, 4)[:, :3]
    soft = hot * torch.linspace(0.1, 0.9, 40, dtype=torch.float64)[:, None]
    return pred, {'labels': labels, 'one-hot': hot, 'soft': soft}[form]


def weights_of(form: str | None) -> torch.Tensor | None:
    """No weights, or weights of rows or of entries; some are 0."""
    generator = torch.Generator().manual_seed(6)
    weight = torch.rand(40, 3, dtype=torch.float64, generator=generator).sub(0.3).clamp(min=0)
    forms = {'rows': weight[:, 0], 'entries': weight, 'flat entries': weight.flatten()}
    return None if form is None else forms[form]


@pytest.mark.parametrize('positives', [True, False])
@pytest.mark.parametrize('gamma', [2.0, 1.5])
@pytest.mark.parametrize('reduce', [{}, {'avg_factor': 5.0}, {'reduction_override': 'none'}])
@pytest.mark.parametrize('weights', [None, 'rows', 'entries', 'flat entries'])
@pytest.mark.parametrize('target', ['labels', 'one-hot', 'soft'])
def test_equals_mmdetection(target, weights, reduce, gamma, positives):
    pred, goal = inputs_of(target, positives)
    results = []
    for kind in (SigmoidFocalLoss, FocalLoss):
        leaf = pred.clone().requires_grad_()
        loss = kind(use_sigmoid=True, gamma=gamma)(leaf, goal, weights_of(weights), **reduce)
        loss.sum().backward()
        results.append((loss.detach(), leaf.grad))
    for have, want in zip(*results, strict=True):
        torch.testing.assert_close(have, want, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize('target', ['labels', 'one-hot'])
def test_scores_equal_mmdetection(target):
    """MMDetection's TOOD passes scores."""
    pred, goal = inputs_of(target)
    have = SigmoidFocalLoss(activated=True)(pred.sigmoid(), goal, avg_factor=2)
    want = FocalLoss(activated=True)(pred.sigmoid(), goal, avg_factor=2)
    torch.testing.assert_close(have, want, rtol=1e-6, atol=0)


def test_bool_weights_select_rows():
    pred, goal = inputs_of('labels')
    chosen = torch.arange(40) % 3 == 0
    have = sigmoid_focal_loss(pred, goal, chosen, reduction='sum')
    torch.testing.assert_close(
        have, sigmoid_focal_loss(pred[chosen], goal[chosen], reduction='sum')
    )


def test_backward_works_twice_through_a_retained_graph():
    pred, goal = inputs_of('labels')
    loss = SigmoidFocalLoss()(pred.requires_grad_(), goal)
    first = torch.autograd.grad(loss, pred, retain_graph=True)[0]
    second = torch.autograd.grad(3 * loss, pred)[0]
    torch.testing.assert_close(second, 3 * first)


def test_use_sigmoid_is_an_attribute_and_false_raises():
    assert SigmoidFocalLoss().use_sigmoid is True
    with pytest.raises(ValueError, match='use_sigmoid is False'):
        SigmoidFocalLoss(use_sigmoid=False)


def test_other_targets_raise():
    pred, goal = inputs_of('labels')
    with pytest.raises(ValueError, match=r'shape \(40, 3\) but the target \(39,\)'):
        sigmoid_focal_loss(pred, goal[1:])
    with pytest.raises(TypeError, match='only QualityFocalLoss takes'):
        sigmoid_focal_loss(pred, (goal, goal))
