"""Hard negative mining against slow loops."""

import pytest
import torch
import torch.nn.functional as F

from mmdet_losses.losses import (
    HardNegativeCrossEntropyLoss,
    hard_negative_cross_entropy_loss,
    mine_hard_negatives,
)
from tests.case_inputs import prior_inputs


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def slow_mining(cost, positive, limit):
    kept = torch.zeros_like(positive)
    for image in range(len(cost)):
        wanted = min(3 * int(positive[image].sum()), limit(positive[image]))
        background = [p for p in range(cost.shape[1]) if not positive[image, p]]
        background.sort(key=lambda p: -float(cost[image, p]))
        kept[image, background[:wanted]] = True
    return kept


@pytest.mark.parametrize('steps', [1000, 3])  # few steps: most costs are equal
@pytest.mark.parametrize('share', [0.0, 0.1, 0.3, 0.9])
@pytest.mark.parametrize(
    ('convention', 'limit'),
    [
        ('official', lambda positive: len(positive) - 1),
        ('summary', len),
        ('mmdet', lambda positive: int((~positive).sum())),
    ],
)
def test_mining_equals_a_slow_loop(convention, limit, share, steps):
    cost = torch.randint(1, steps + 1, (4, 25), generator=generator(1)) / steps
    positive = torch.rand(4, 25, generator=generator(2)) < share
    mined = mine_hard_negatives(cost, positive, convention=convention)
    assert torch.equal(mined, slow_mining(cost, positive, limit))


def test_mining_keeps_a_nan_visible():
    cost = torch.tensor([[1.0, float('nan'), 3, 2], [1, float('nan'), 3, 2]])
    positive = torch.tensor([[True, False, False, False], [False] * 4])
    assert mine_hard_negatives(cost, positive)[:, 1].tolist() == [True, False]


def test_value_and_gradient_equal_a_slow_loop():
    inputs = prior_inputs(generator(3))
    pred, labels = inputs['pred'].requires_grad_(), inputs['labels']
    want, positives = 0, 0
    for logits, label in zip(pred, labels, strict=True):
        cost = F.cross_entropy(logits, label, reduction='none')
        found = [p for p in range(20) if label[p] != 3]
        rest = sorted(
            (p for p in range(20) if label[p] == 3), key=lambda p: -float(cost[p].detach())
        )
        chosen = [*found, *rest[: min(3 * len(found), 19)]]
        want = want + cost[chosen].sum()
        positives += len(found)
    want = want / positives
    got = hard_negative_cross_entropy_loss(pred, labels)
    torch.testing.assert_close(got, want)
    grads = [torch.autograd.grad(each, pred)[0] for each in (got, want)]
    torch.testing.assert_close(*grads)


def test_images_without_objects_contribute_only_with_min_neg():
    inputs = prior_inputs(generator(4), positives=False)
    assert HardNegativeCrossEntropyLoss()(**inputs) == 0
    cost = F.cross_entropy(
        inputs['pred'].flatten(0, 1), inputs['labels'].flatten(), reduction='none'
    )
    want = cost.view(2, 20).topk(5).values.sum()
    got = HardNegativeCrossEntropyLoss(min_neg=5)(**inputs)
    torch.testing.assert_close(got, want)


def test_an_unknown_convention_raises():
    with pytest.raises(ValueError, match="'paper' is unknown"):
        HardNegativeCrossEntropyLoss(convention='paper')


def test_weights_multiply_the_cost_of_each_anchor():
    logits = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.full((2, 9), 3)
    labels[0, 2], labels[1, 5] = 0, 1
    weight = torch.ones(2, 9)
    weight[0, 2], weight[1, 5] = 0.25, 2.0
    plain = hard_negative_cross_entropy_loss(logits, labels, reduction='none')
    have = hard_negative_cross_entropy_loss(logits, labels, None, None, weight, reduction='none')
    torch.testing.assert_close(have, plain * weight)
