"""Penalty-reduced focal loss: dense and sparse targets, saturation, divisors, memory."""

from __future__ import annotations

import functools
import math

import pytest
import torch
import torch.distributed as dist
from mmdet.models.losses import GaussianFocalLoss

from mmdet_losses.losses import (
    PenaltyReducedFocalLoss,
    heatmap_mse_loss,
    penalty_reduced_focal_loss,
)
from mmdet_losses.ops import Splats, splat_gaussians
from tests.case_inputs import splats_of

SHAPE = (2, 3, 9, 13)


def splats(seed: int = 0, shape: tuple[int, ...] = SHAPE, objects: int = 12) -> Splats:
    """Overlapping Gaussians."""
    generator = torch.Generator().manual_seed(seed)
    batch, classes, height, width = shape
    xy = torch.stack(
        [torch.randint(side, (batch, objects), generator=generator) for side in (width, height)],
        -1,
    )
    radius = torch.randint(4, (batch, objects), generator=generator)
    labels = torch.randint(classes, (batch, objects), generator=generator)
    mask = torch.rand((batch, objects), generator=generator) > 0.2
    return splat_gaussians(xy, radius, (2 * radius + 1) / 6, labels, mask, shape[1:], 4)


def oracle(pred, target, weight=None, clamp=None, alpha=2.0, beta=4.0):
    """The formula in float64, cell by cell, summed per image."""
    p = pred.double().sigmoid()
    if clamp is not None:
        low, high = torch.tensor([clamp, 1 - clamp]).double()
        p = torch.minimum(torch.maximum(p, low), high)
    t = target.double()
    positive = -((1 - p) ** alpha) * p.log()
    negative = -((1 - t) ** beta) * p**alpha * (1 - p).log()
    cost = torch.where(t == 1, positive, negative)
    return (cost if weight is None else cost * weight).flatten(1).sum(1)


@pytest.mark.parametrize('sparse', [False, True])
@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('clamp', [None, 1e-4])
@pytest.mark.parametrize('alpha, beta', [(2.0, 4.0), (1.5, 3.0)])
def test_dense_and_sparse_equal_a_float64_oracle(sparse, weighted, clamp, alpha, beta):
    target = splats()
    pred = 4 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    weight = torch.rand(SHAPE).round() if weighted else None
    exact = pred.double().requires_grad_()
    want = oracle(exact, target.dense(), weight, clamp, alpha, beta).sum()
    (want_grad,) = torch.autograd.grad(want, exact)
    pred.requires_grad_()
    have = penalty_reduced_focal_loss(
        pred,
        target if sparse else target.dense(),
        weight,
        alpha=alpha,
        beta=beta,
        clamp=clamp,
        reduction='sum',
    )
    (have_grad,) = torch.autograd.grad(have, pred)
    torch.testing.assert_close(have.double(), want, rtol=1e-6, atol=0)
    error = (have_grad - want_grad).abs().max() / want_grad.abs().max()
    assert error < 1e-6


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('logit', [0.0, 20.0, -20.0, 104.0, -104.0])
def test_any_logit_is_finite_in_any_precision(dtype, logit):
    target = splats()
    pred = torch.full(SHAPE, logit, dtype=dtype, requires_grad=True)
    want = oracle_from_logits(torch.full(SHAPE, logit, dtype=torch.float64), target.dense())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = penalty_reduced_focal_loss(pred, target, reduction='sum')
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite() and pred.grad.isfinite().all()
    torch.testing.assert_close(loss.double(), want, rtol=1e-3, atol=1e-6)


def oracle_from_logits(x, target):
    """The oracle with log p = -softplus(-x), which does not round to infinity."""
    t, soft = target.double(), torch.nn.functional.softplus
    positive = (-x).sigmoid() ** 2 * soft(-x)
    negative = (1 - t) ** 4 * x.sigmoid() ** 2 * soft(x)
    return torch.where(t == 1, positive, negative).sum()


@pytest.mark.parametrize('sparse', [False, True])
def test_a_confidently_wrong_cell_keeps_its_gradient_unless_clamped(sparse):
    target = torch.zeros(1, 1, 2, 2)
    target[0, 0, 1, 1] = 1
    pred = torch.tensor([[[[20.0, -20.0], [0.0, -104.0]]]], requires_grad=True)
    given = splats_of(target) if sparse else target
    (free,) = torch.autograd.grad(penalty_reduced_focal_loss(pred, given), pred)
    (clamped,) = torch.autograd.grad(penalty_reduced_focal_loss(pred, given, clamp=1e-4), pred)
    assert free[0, 0, 0, 0] > 0.5 and free[0, 0, 1, 1] < -0.5
    assert clamped[0, 0, 0, 0] == 0 and clamped[0, 0, 1, 1] == 0
    assert clamped[0, 0, 1, 0] != 0
    scores = penalty_reduced_focal_loss(pred.sigmoid(), given, activated=True, clamp=1e-4)
    torch.testing.assert_close(scores, penalty_reduced_focal_loss(pred, given, clamp=1e-4))


def flat_target(per_image: list[int]) -> torch.Tensor:
    """Images of 1 x 8 cells, with the number of positives per image."""
    target = torch.zeros(len(per_image), 1, 1, 8)
    for image, count in enumerate(per_image):
        target[image, 0, 0, :count] = 1
    return target


@pytest.mark.parametrize('sparse', [False, True])
@pytest.mark.parametrize(
    'counts, normalizer, divisors',
    [
        ([2, 4], 'positives', [6, 6]),
        ([0, 4], 'positives', [4, 4]),
        ([0, 0], 'positives', [1, 1]),
        # each image by its own positives, then the mean over two images
        ([2, 4], 'positives_per_image', [4, 8]),
        ([0, 4], 'positives_per_image', [2, 8]),
        ([2, 4], 'positives_all_ranks', [6, 6]),  # a single process
    ],
)
def test_normalizers_by_hand(sparse, counts, normalizer, divisors):
    """Logits of 0: every cell, positive or not, costs 0.25 * log 2."""
    target, cost = flat_target(counts), 8 * 0.25 * math.log(2)
    loss = penalty_reduced_focal_loss(
        torch.zeros(target.shape), splats_of(target) if sparse else target, normalizer=normalizer
    )
    assert float(loss) == pytest.approx(sum(cost / divisor for divisor in divisors))


@pytest.mark.parametrize('own, other', [(1, 4), (4, 1), (0, 4)])
def test_all_ranks_divide_by_the_mean_number_of_positives(monkeypatch, own, other):
    """Two processes; the part of the other one in the all-reduce is simulated."""
    monkeypatch.setattr(dist, 'is_initialized', lambda: True)
    monkeypatch.setattr(dist, 'get_world_size', lambda: 2)
    monkeypatch.setattr(dist, 'all_reduce', lambda value: value.add_(other / 2))
    target = flat_target([own])
    loss = penalty_reduced_focal_loss(
        torch.zeros(target.shape), target, normalizer='positives_all_ranks'
    )
    assert float(loss) == pytest.approx(8 * 0.25 * math.log(2) / ((own + other) / 2))


def test_avg_factor_divides_the_sum():
    target, pred = splats(), torch.randn(SHAPE)
    total = penalty_reduced_focal_loss(pred, target, reduction='sum')
    assert torch.equal(penalty_reduced_focal_loss(pred, target, avg_factor=7.0), total / 7)


def kept_bytes(loss_of, pred: torch.Tensor) -> int:
    """Bytes that autograd keeps for backward, by storage, whether as saved tensors or on nodes."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = loss_of(pred)
    nodes, seen = [loss.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        nodes += [parent for parent, _ in node.next_functions]
        for value in getattr(node, '__dict__', {}).values():
            if isinstance(value, torch.Tensor):
                keep(value)
    return sum(kept.values())


@pytest.mark.parametrize('sparse', [False, True])
def test_only_the_gradient_is_kept_for_backward(sparse):
    shape = (2, 20, 64, 64)
    target = splats(shape=shape, objects=5)
    given = target if sparse else target.dense()
    pred = torch.randn(shape, requires_grad=True)
    size = pred.numel() * 4
    ours = kept_bytes(lambda x: penalty_reduced_focal_loss(x, given), pred)
    theirs = kept_bytes(lambda x: GaussianFocalLoss()(x.sigmoid(), target.dense()), pred)
    assert theirs > 5 * size  # the measurement works
    assert size <= ours <= 1.01 * size


@pytest.mark.parametrize('sparse', [False, True])
def test_backward_works_twice_through_a_retained_graph(sparse):
    target = splats()
    pred = torch.randn(SHAPE, requires_grad=True)
    loss = penalty_reduced_focal_loss(pred, target if sparse else target.dense())
    (first,) = torch.autograd.grad(loss, pred, retain_graph=True)
    copy = first.clone()
    (second,) = torch.autograd.grad(3 * loss, pred)
    torch.testing.assert_close(second, 3 * first)
    assert torch.equal(first, copy)


def test_inputs_are_not_modified():
    target = splats()
    pred, weight = torch.randn(SHAPE, requires_grad=True), torch.rand(SHAPE)
    before = [each.clone() for each in (pred.detach(), weight, target.value, target.index)]
    penalty_reduced_focal_loss(pred, target, weight).backward()
    for now, then in zip((pred.detach(), weight, *target[1::-1]), before, strict=True):
        assert torch.equal(now, then)


@pytest.mark.parametrize('size', [2, 12])
def test_equals_the_gaussian_focal_loss_of_mmdetection(size):
    """For scores, up to the epsilon of MMDetection; a large logit keeps its gradient."""
    target = splats().dense()
    logits = (size * torch.randn(SHAPE)).clamp(-16, 16).requires_grad_()
    ours = PenaltyReducedFocalLoss(activated=True)(logits.sigmoid(), target, None, 5.0)
    theirs = GaussianFocalLoss()(logits.sigmoid(), target, avg_factor=5.0)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
    grads = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize('options', [{}, {'clamp': 1e-4}, {'activated': True}])
def test_captures_any_target_in_one_graph(options):
    target, pred = splats(), torch.randn(SHAPE)
    pred = pred.sigmoid() if 'activated' in options else pred
    function = functools.partial(penalty_reduced_focal_loss, **options)
    torch._dynamo.reset()  # the recompile limit includes the captures of other tests
    compiled = torch.compile(function, backend='eager', fullgraph=True)
    for given in (target, target.dense(), Splats(None, target.dense(), SHAPE)):
        torch.testing.assert_close(compiled(pred, given), function(pred, given))


def test_compiles_once_more_for_any_number_of_splats(monkeypatch):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    monkeypatch.setattr(torch, 'compile', functools.partial(torch.compile, backend=backend))
    term = PenaltyReducedFocalLoss(compile=True)
    for seed in range(12):
        target, pred = splats(seed), torch.randn(SHAPE)
        torch.testing.assert_close(term(pred, target), penalty_reduced_focal_loss(pred, target))
    assert len({len(splats(seed).index) for seed in range(12)}) > 9
    assert len(graphs) == 2


def test_dense_and_listed_splats_give_the_same_loss():
    target, pred = splats(), torch.randn(SHAPE, requires_grad=True)
    dense = Splats(None, target.dense(), SHAPE)
    assert dense.is_dense and not target.is_dense and torch.equal(dense.dense(), target.dense())
    for normalizer in ('positives', 'positives_per_image'):
        losses = [
            penalty_reduced_focal_loss(pred, each, normalizer=normalizer)
            for each in (target, dense)
        ]
        torch.testing.assert_close(*losses)
    want, have = (heatmap_mse_loss(pred, each) for each in (target, dense))
    torch.testing.assert_close(have, want)


@pytest.mark.parametrize('sparse', [False, True])
@pytest.mark.parametrize('clamp', [None, 1e-4])
def test_all_cells_positive(sparse, clamp):
    dense = torch.ones(1, 2, 3, 4)
    pred = 4 * torch.randn(dense.shape)
    target = splats_of(dense) if sparse else dense
    loss = penalty_reduced_focal_loss(pred.requires_grad_(), target, clamp=clamp)
    (gradient,) = torch.autograd.grad(loss, pred)
    exact = pred.detach().double().requires_grad_()
    want = oracle(exact, dense, clamp=clamp).sum() / dense.numel()
    torch.testing.assert_close(loss.double(), want, rtol=1e-5, atol=0)
    (want_gradient,) = torch.autograd.grad(want, exact)
    torch.testing.assert_close(gradient.double(), want_gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    'options, message',
    [
        ({'reduction': 'average'}, "reduction='average' is unknown"),
        ({'normalizer': 'object'}, "normalizer='object' is unknown"),
    ],
)
def test_unknown_arguments_raise(options, message):
    with pytest.raises(ValueError, match=message):
        penalty_reduced_focal_loss(torch.zeros(SHAPE), torch.zeros(SHAPE), **options)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match='the same num_classes and stride'):
        penalty_reduced_focal_loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 4, 4))
