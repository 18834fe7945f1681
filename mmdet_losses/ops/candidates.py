"""Scores above a threshold, found before anything else is computed from them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmdet_losses.ops.constant import constant
from mmdet_losses.ops.kernels.cross_entropy import exponential_sums
from mmdet_losses.ops.precision import promote

ROUNDING = 1e-3
"""More than the rounding of a logarithm in float32."""


def best_logits(logits: Tensor, score_thr: float, k: int | None) -> tuple[Tensor, Tensor]:
    """Sigmoid scores above ``score_thr``, the ``k`` best of them, with their positions.

    On a CPU the logits are compared with the logit of the threshold first, so that only the few
    logits above it are ranked and become scores. On a GPU the result has always min(k, n) entries,
    so that no shape depends on values; scores that are not above the threshold are -1 there.

    Shape:
        logits: (n,), on a GPU also (B, n).
        Returns scores (m,), descending if there are more than ``k``, and int64 positions (m,).

    Example:
        >>> best_logits(torch.tensor([0.0, 3.0, -3.0, 1.0]), score_thr=0.2, k=2)[1]
        tensor([1, 3])
    """
    if logits.device.type != 'cpu':
        count = logits.shape[-1]
        best, index = logits.topk(count if k is None else min(k, count))
        return reject_below(promote(best).sigmoid(), score_thr), index
    index = (logits > _logit_below(score_thr)).nonzero().squeeze(1)
    logits = logits[index]
    if k is not None and k < len(logits):
        logits, order = logits.topk(k)
        index = index[order]
    scores = promote(logits).sigmoid()
    kept = scores > score_thr
    return scores[kept], index[kept]


def scores_above(
    logits: Tensor, score_thr: float, softmax: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Scores above ``score_thr``, for a CPU: sigmoids, or a softmax without its last class.

    The logits of a softmax are compared with the logarithm of the threshold times the sum of their
    exponentials, so that only the few scores above it are computed.

    Shape:
        logits: (N, C, L). Returns scores (m,), and their indices (m,) of the three dimensions.
    """
    differentiable = logits.requires_grad and torch.is_grad_enabled()
    fast = softmax and score_thr > 0 and not differentiable
    total = exponential_sums(logits) if fast else None
    if total is None:
        scores = logits.softmax(1)[:, :-1] if softmax else logits.sigmoid()
        found = (scores > score_thr).nonzero(as_tuple=True)
        return scores[found], found
    low = total.log().add_(math.log(score_thr) - ROUNDING)
    found = (logits[:, :-1] > low[:, None]).nonzero(as_tuple=True)
    scores = logits[found].exp().div_(total[found[0], found[2]])
    kept = scores > score_thr
    return scores[kept], tuple(each[kept] for each in found)


def reject_below(scores: Tensor, score_thr: float) -> Tensor:
    """Scores, -1 where they are not above the threshold; post-processing drops these."""
    return torch.where(scores > score_thr, scores, constant(-1, scores))


def _logit_below(score: float) -> float:
    """A number below the logit of every higher score, also after rounding to bfloat16."""
    if score <= 0:
        return -math.inf
    if score >= 1:
        return math.inf
    logit = math.log(score) - math.log1p(-score)
    return logit - 0.02 * abs(logit) - 0.02


def best_per_class(scores: Tensor, labels: Tensor, k: int | None) -> Tensor:
    """Indices of the ``k`` highest scores of each class, sorted by label, then by falling score.

    With ``k=None``, or if there are at most ``k`` scores, all indices are returned.

    Shape:
        scores, labels: (n,). Returns (m,) int64.

    Example:
        >>> best_per_class(torch.tensor([0.5, 0.9, 0.7]), torch.tensor([1, 0, 1]), k=1)
        tensor([1, 2])
    """
    order = scores.argsort(descending=True, stable=True)
    order = order[labels[order].argsort(stable=True)]
    if k is None or len(order) <= k:
        return order
    own = labels[order]
    rank = torch.arange(len(own), device=own.device) - torch.searchsorted(own, own)
    return order[rank < k]
