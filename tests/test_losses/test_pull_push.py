"""Pull and push: the official formula, the formula of the paper, and empty slots."""

import copy
import math

import pytest
import torch

from mmdet_losses.losses import pull_push_loss
from mmdet_losses.registry import MODELS


def slow_loss(tl, br, mask, eps):
    """One object and one pair at a time, in the order of the official code."""
    pulls, pushes = [], []
    for each_tl, each_br, used in zip(tl, br, mask, strict=True):
        objects = [m for m in range(len(used)) if used[m]]
        count = len(objects)
        means = {m: (each_tl[m] + each_br[m]) / 2 for m in objects}
        pull, push = each_tl.sum() * 0, each_tl.sum() * 0
        for j in objects:
            pull = pull + (each_tl[j] - means[j]) ** 2 + (each_br[j] - means[j]) ** 2
            for k in objects:
                if eps:
                    push = push + (1 - (means[j] - means[k]).abs()).clamp(min=0) - 1 / (count + eps)
                elif j != k:
                    push = push + (1 - (means[j] - means[k]).abs()).clamp(min=0)
        pairs = count * (count - 1)
        pulls.append(pull / (count + eps if eps else max(count, 1)))
        pushes.append(push / (pairs + eps if eps else max(pairs, 1)))
    return torch.stack(pulls), torch.stack(pushes)


def random_embeddings(counts=(4, 1, 0, 2), slots=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tl, br = torch.randn(2, len(counts), slots, dtype=torch.float64, generator=generator)
    mask = torch.rand(len(counts), slots, generator=generator).argsort(1)
    return tl, br, mask < torch.tensor(counts)[:, None]


@pytest.mark.parametrize('eps', [1e-4, 0])
def test_equals_a_loop_over_pairs(eps):
    tl, br, mask = random_embeddings()
    ours = [each.requires_grad_() for each in (tl.clone(), br.clone())]
    loop = [each.requires_grad_() for each in (tl.clone(), br.clone())]
    have = pull_push_loss(*ours, mask, eps=eps, reduction='none')
    want = slow_loss(*loop, mask, eps)
    for got, expected in zip(have, want, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    (have[0].sum() + 2 * have[1].sum()).backward()
    (want[0].sum() + 2 * want[1].sum()).backward()
    for got, expected in zip(ours, loop, strict=True):
        torch.testing.assert_close(got.grad, expected.grad, rtol=1e-12, atol=1e-12)


def test_push_of_one_object_is_a_constant_officially_and_zero_in_the_paper():
    embedding, mask = torch.tensor([[0.3]], requires_grad=True), torch.tensor([[True]])
    _, push = pull_push_loss(embedding, embedding, mask)
    assert push.item() == pytest.approx(1, abs=3e-4)
    push.backward()
    assert embedding.grad.item() == 0
    assert pull_push_loss(embedding, embedding, mask, eps=0)[1] == 0


def test_sums_over_images_by_default():
    tl, br, mask = random_embeddings()
    single = [pull_push_loss(tl[i : i + 1], br[i : i + 1], mask[i : i + 1]) for i in range(4)]
    for total, *parts in zip(pull_push_loss(tl, br, mask), *single, strict=True):
        torch.testing.assert_close(total, sum(parts))
    mean = pull_push_loss(tl, br, mask, reduction='mean')
    torch.testing.assert_close(mean[0] * 4, pull_push_loss(tl, br, mask)[0])


def test_gradient_equals_numerical_differences():
    tl, br, mask = random_embeddings()
    leaves = tl.requires_grad_(), br.requires_grad_()
    assert torch.autograd.gradcheck(lambda *each: pull_push_loss(*each, mask), leaves)


def test_nan_in_empty_slots_has_no_effect():
    tl, br, mask = random_embeddings()
    want = pull_push_loss(tl, br, mask)
    tl, br = tl.masked_fill(~mask, math.nan), br.masked_fill(~mask, math.inf)
    leaves = [tl.requires_grad_(), br.requires_grad_()]
    have = pull_push_loss(*leaves, mask)
    torch.testing.assert_close(have, want)
    sum(have).backward()
    assert all(leaf.grad.isfinite().all() for leaf in leaves)


def test_without_objects_the_gradient_is_zero():
    leaves = [torch.randn(2, 3, 1, requires_grad=True) for _ in range(2)]
    pull, push = pull_push_loss(*leaves, torch.zeros(2, 3, dtype=torch.bool))
    assert pull == push == 0
    (pull + push).backward()
    assert all(leaf.grad.eq(0).all() for leaf in leaves)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('size', [1.0, 12.0, 104.0])
def test_half_precision_is_computed_in_float32(dtype, size):
    tl, br, mask = random_embeddings()
    tl, br = (tl * size).to(dtype), (br * size).to(dtype)
    have = pull_push_loss(tl.requires_grad_(), br.requires_grad_(), mask)
    want = pull_push_loss(tl.detach().double(), br.detach().double(), mask)
    for got, expected in zip(have, want, strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), expected, rtol=1e-3, atol=3e-4)
    sum(have).backward()
    assert tl.grad.isfinite().all()
    assert br.grad.isfinite().all()


def test_module_applies_both_weights_and_keeps_its_inputs():
    tl, br, mask = random_embeddings()
    before = copy.deepcopy((tl, br, mask))
    term = MODELS.build({'type': 'AELoss', 'pull_weight': 2.0, 'push_weight': 3.0})
    have, want = term(tl, br, mask), pull_push_loss(tl, br, mask)
    torch.testing.assert_close(have, (2 * want[0], 3 * want[1]))
    torch.testing.assert_close((tl, br, mask), before, rtol=0, atol=0)


def test_captures_as_one_graph_and_does_not_synchronise():
    tl, br, mask = random_embeddings()
    compiled = torch.compile(pull_push_loss, backend='eager', fullgraph=True)
    torch.testing.assert_close(compiled(tl, br, mask), pull_push_loss(tl, br, mask))
    assert all(each.is_meta for each in pull_push_loss(*(x.to('meta') for x in (tl, br, mask))))


def test_embeddings_of_several_numbers_raise():
    with pytest.raises(ValueError, match='give one number per corner'):
        pull_push_loss(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), torch.ones(1, 2) > 0)


def test_weights_equal_a_slow_loop():
    """An object's pull has its weight, a pair the mean of both."""
    tl, br, mask = random_embeddings()
    weight = torch.rand(mask.shape, generator=torch.Generator().manual_seed(1)).double()
    have = pull_push_loss(tl, br, mask, weight, reduction='none')
    for image, used in enumerate(mask):
        objects = used.nonzero().flatten().tolist()
        count, mean = len(objects), (tl[image] + br[image]) / 2
        pull = sum(
            weight[image, j]
            * ((tl[image, j] - mean[j]) ** 2 + (br[image, j] - mean[j]) ** 2)
            / (count + 1e-4)
            for j in objects
        )
        push = sum(
            (weight[image, j] + weight[image, k])
            / 2
            * ((1 - (mean[j] - mean[k]).abs()).clamp(min=0) - 1 / (count + 1e-4))
            / (count * (count - 1) + 1e-4)
            for j in objects
            for k in objects
        )
        for value, want in zip(have, (pull, push), strict=True):
            torch.testing.assert_close(value[image].item(), float(want), rtol=1e-6, atol=1e-9)
