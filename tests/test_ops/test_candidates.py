"""Scores above a threshold, against plain loops."""

from __future__ import annotations

import pytest
import torch

from mmdet_losses.ops import best_logits, best_per_class, scores_above


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize('score_thr', [-0.5, 0.0, 1e-4, 0.05, 0.5, 0.9, 1.0])
@pytest.mark.parametrize('k', [None, 0, 7, 1000])
def test_best_logits_equal_ranking_all_scores(dtype, score_thr, k):
    logits = (4 * torch.randn(300, generator=torch.Generator().manual_seed(0))).to(dtype)
    scores, index = best_logits(logits, score_thr, k)
    every = logits.float().sigmoid()
    # PyTorch rounds the last elements of an array in another way than the others.
    torch.testing.assert_close(scores, every[index], rtol=1e-6, atol=0)
    want = every[every > score_thr].sort(descending=True).values[:k]
    torch.testing.assert_close(scores.sort(descending=True).values, want, rtol=1e-6, atol=0)
    assert len(set(index.tolist())) == len(index)


@pytest.mark.parametrize('softmax', [True, False])
@pytest.mark.parametrize('score_thr', [-0.5, 0.0, 1e-4, 0.05, 0.5, 1.0])
@pytest.mark.parametrize('shift', [0.0, 90.0, -90.0])  # exponentials overflow and underflow
def test_scores_above_a_threshold_equal_all_scores(softmax, score_thr, shift):
    logits = 4 * torch.randn(3, 6, 50, generator=torch.Generator().manual_seed(0)) + shift
    scores, found = scores_above(logits, score_thr, softmax)
    every = logits.softmax(1)[:, :-1] if softmax else logits.sigmoid()
    want = (every > score_thr).nonzero(as_tuple=True)
    assert all(map(torch.equal, found, want))
    torch.testing.assert_close(scores, every[want], rtol=2e-6, atol=0)


def test_scores_above_a_threshold_keep_their_gradient():
    logits = torch.zeros(1, 3, 1, requires_grad=True)
    scores, _ = scores_above(logits, 0.1, softmax=True)
    (slope,) = torch.autograd.grad(scores[0], logits)
    torch.testing.assert_close(slope.flatten(), torch.tensor([2.0, -1, -1]) / 9)


def test_best_logits_of_nothing():
    scores, index = best_logits(torch.zeros(0), 0.1, 5)
    assert scores.shape == index.shape == (0,)
    assert index.dtype == torch.int64


@pytest.mark.parametrize('k', [None, 1, 3, 100])
def test_best_per_class_equals_a_loop_over_classes(k):
    generator = torch.Generator().manual_seed(0)
    scores = (torch.rand(60, generator=generator) * 20).round() / 20  # with equal scores
    labels = torch.randint(5, (60,), generator=generator)
    want = []
    for label in range(5):
        own = (labels == label).nonzero().squeeze(1)
        want += own[scores[own].argsort(descending=True, stable=True)][:k].tolist()
    assert best_per_class(scores, labels, k).tolist() == want


def test_best_per_class_of_nothing():
    assert best_per_class(torch.zeros(0), torch.zeros(0).long(), 3).tolist() == []
