"""Our terms called like the losses of MMDetection that they replace."""

import pytest
import torch
from mmdet.models.losses import (
    AssociativeEmbeddingLoss,
    GaussianFocalLoss,
    IoULoss,
    L1Loss,
    SmoothL1Loss,
)

from mmdet_losses.losses import (
    BoxIoULoss,
    GeneralizedIoULoss,
    MaskedL1Loss,
    MaskedSmoothL1Loss,
    MaskedWeightedL1Loss,
    PenaltyReducedFocalLoss,
    PullPushLoss,
    SigmoidFocalLoss,
)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def assert_equal_losses(ours, theirs, leaves: list[torch.Tensor]) -> None:
    """Two losses of the same leaves have the same value and gradients."""
    results = []
    for function in (ours, theirs):
        copies = [leaf.clone().requires_grad_() for leaf in leaves]
        loss = function(*copies)
        grads = torch.autograd.grad(loss.sum(), copies)
        results.append((loss.detach(), *grads))
    for have, want in zip(*results, strict=True):
        torch.testing.assert_close(have, want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('objects', [(3, 2), (1, 4), (2, 0), (0, 0)])
def test_pull_push_takes_lists_of_corners(objects):
    maps = [random(2, 1, 6, 7, seed=seed) for seed in (1, 2)]
    match = [[[[k, k + 1], [k + 2, k + 3]] for k in range(count)] for count in objects]
    assert_equal_losses(
        lambda tl, br: sum(PullPushLoss(0.25, 0.25)(tl, br, match)),
        lambda tl, br: sum(AssociativeEmbeddingLoss()(tl, br, match)) + 0 * br.sum(),
        maps,
    )


@pytest.mark.parametrize('options', [{}, {'gamma': 3.0}, {'pos_weight': 0.25, 'neg_weight': 0.75}])
def test_heatmap_loss_takes_the_arguments_of_the_gaussian_focal_loss(options):
    target = random(2, 3, 4, 5)
    target[0, 1, 2, 3] = target[1, 2, 0, 0] = 1
    assert_equal_losses(
        lambda x: PenaltyReducedFocalLoss(activated=True, **options)(x, target, avg_factor=2.0),
        lambda x: GaussianFocalLoss(**options)(x, target, avg_factor=2.0),
        [random(2, 3, 4, 5, seed=1).clamp(1e-3, 1 - 1e-3)],
    )


def test_heatmap_loss_takes_given_positives():
    """CenterNet-update passes rows and classes of its positives; one occurs twice."""
    rows, labels = torch.tensor([4, 4, 17]), torch.tensor([1, 1, 0])
    target = random(20, 3)
    target[4, 1] = 1
    options = {'pos_weight': 0.25, 'neg_weight': 0.75}
    call = {'pos_inds': rows, 'pos_labels': labels, 'avg_factor': torch.tensor(3.0)}
    assert_equal_losses(
        lambda x: PenaltyReducedFocalLoss(activated=True, **options)(x, target, **call),
        lambda x: GaussianFocalLoss(**options)(x, target, **call),
        [random(20, 3, seed=1).clamp(1e-3, 1 - 1e-3)],
    )
    with pytest.raises(ValueError, match="reduction='none' has no single shape"):
        PenaltyReducedFocalLoss()(target, target, reduction_override='none', **call)


@pytest.mark.parametrize('weight', [None, random(9, 4, seed=3), (random(9, 4) > 0.5).float()])
@pytest.mark.parametrize('reduce', [{'avg_factor': 5}, {'reduction_override': 'none'}])
@pytest.mark.parametrize(
    'ours, theirs',
    [
        (MaskedL1Loss(), L1Loss()),
        (MaskedWeightedL1Loss(), L1Loss()),
        (MaskedSmoothL1Loss(beta=0.5), SmoothL1Loss(beta=0.5)),
    ],
)
def test_l1_losses_take_fractional_weights_or_none(ours, theirs, reduce, weight):
    target = random(9, 4, seed=2)
    assert_equal_losses(
        lambda x: ours(x, target, weight=weight, **reduce),
        lambda x: theirs(x, target, weight=weight, **reduce),
        [random(9, 4, seed=1)],
    )


@pytest.mark.parametrize('scaling', ['linear', 'square', 'log'])
@pytest.mark.parametrize('weight', [None, random(8), random(8)[:, None].expand(-1, 4)])
def test_iou_loss_has_the_scalings_of_mmdetection(scaling, weight):
    low = random(8, 2) * 9
    target = torch.cat((low, low + 2 + random(8, 2, seed=4) * 9), 1)
    assert_equal_losses(
        lambda x: BoxIoULoss(scaling=scaling, eps=1e-6)(x, target, weight, avg_factor=3),
        lambda x: IoULoss(mode=scaling, eps=1e-6)(x, target, weight, avg_factor=3),
        [target + random(8, 4, seed=5)],
    )


def test_iou_arguments_that_do_not_fit_raise():
    assert GeneralizedIoULoss(eps=1e-7).mode == 'giou'
    with pytest.raises(ValueError, match="set scaling='log'"):
        BoxIoULoss(mode='log')
    with pytest.raises(ValueError, match="needs mode='iou'"):
        BoxIoULoss(mode='giou', scaling='square')


DENSE = [
    (SigmoidFocalLoss(), lambda n: (random(n, 3), torch.arange(n) % 4)),
    (MaskedL1Loss(), lambda n: (random(n, 4), random(n, 4, seed=1))),
    (MaskedSmoothL1Loss(), lambda n: (random(n, 4), random(n, 4, seed=1))),
    (MaskedWeightedL1Loss(), lambda n: (random(n, 4), random(n, 4, seed=1))),
    (GeneralizedIoULoss(), lambda n: (random(n, 4), random(n, 4, seed=1))),
    (PenaltyReducedFocalLoss(), lambda n: (random(n, 2, 3, 4), random(n, 2, 3, 4, seed=1))),
]


@pytest.mark.parametrize('term, inputs', DENSE, ids=lambda each: type(each).__name__)
def test_avg_factor_zero_sum_and_empty_batches(term, inputs):
    pred, target = inputs(2)
    total = term(pred, target, reduction_override='sum')
    for zero in (0, 0.0, torch.tensor(0), torch.tensor(0.0)):
        want = total / torch.finfo(torch.float32).eps
        torch.testing.assert_close(term(pred, target, avg_factor=zero), want)
    with pytest.raises(ValueError, match="avg_factor has no effect with reduction='sum'"):
        term(pred, target, avg_factor=2.0, reduction_override='sum')
    for reduce in ({}, {'avg_factor': 0.0}, {'reduction_override': 'sum'}):
        pred, target = inputs(0)
        loss = term(pred.requires_grad_(), target, **reduce)
        loss.backward()
        assert loss == 0 and pred.grad.shape == pred.shape
