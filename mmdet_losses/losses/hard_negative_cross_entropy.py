r"""Cross-entropy with hard negative mining: objects, and the background with the highest cost.

With the positives :math:`P`, the mined negatives :math:`N` and labels :math:`c_i`

.. math::

    \frac{1}{|P|} \Big[ - \sum_{i \in P} \log \mathrm{softmax}(x_i)_{c_i}
    - \sum_{i \in N} \log \mathrm{softmax}(x_i)_C \Big]

Reference:
    Liu et al., *SSD: Single Shot MultiBox Detector*, section 2.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from mmdet_losses.losses.term import LossTerm
from mmdet_losses.ops import (
    Reduction,
    at_least_one,
    channels_per_anchor,
    check_choice,
    counting,
    promote,
    reduce_loss,
)
from mmdet_losses.ops.kernels import chosen_cross_entropy
from mmdet_losses.registry import MODELS

Convention = Literal['official', 'summary', 'mmdet']
CONVENTIONS: tuple[str, ...] = get_args(Convention)


def mine_hard_negatives(
    cost: Tensor,
    positive: Tensor,
    *,
    ratio: float = 3.0,
    min_neg: int = 0,
    convention: Convention = 'official',
) -> Tensor:
    """The background anchors of each image with the highest cost.

    Shape:
        cost: (B, P), of every anchor.
        positive: (B, P) bool.
        Returns (B, P) bool, disjoint from ``positive``.

    Convention:
        ``ratio`` negatives per positive of the image, at most P - 1 ('official', ssd.pytorch), P
        ('summary', published notes on the loss) or the number of negatives ('mmdet'). Positives
        are ranked with a cost of 0, so none is counted twice. Equal costs are ranked by position.

    Args:
        min_neg: minimum number of negatives per image; with 0, as in the original, an image
            without objects contributes nothing.

    Raises:
        ValueError: an unknown convention.
    """
    check_choice('convention', convention, CONVENTIONS)
    if not cost.numel():
        return positive
    anchors = cost.shape[1]
    wanted = (positive.sum(1, keepdim=True) * ratio).clamp(min=min_neg)
    if convention == 'mmdet':
        wanted = torch.minimum(wanted, (~positive).sum(1, keepdim=True))
    else:
        wanted = wanted.clamp(max=anchors - 1 if convention == 'official' else anchors)
    return _highest(torch.where(positive, 0, cost), wanted) & ~positive


def _highest(cost: Tensor, wanted: Tensor) -> Tensor:
    """The ``wanted`` (B, 1) highest of each row, (B, P) bool; equal ones in order of position."""
    if cost.device.type != 'cpu' or torch.compiler.is_compiling():
        ranked = cost.sort(dim=1, descending=True, stable=True).indices
        chosen = counting(cost.shape[1], cost.device) < wanted
        return torch.zeros_like(chosen).scatter(1, ranked, chosen)
    # sorting all takes several times longer
    count = wanted.ceil().long()
    ranked = cost.topk(max(1, int(count.max())), 1).values
    last = ranked.gather(1, (count - 1).clamp(min=0))
    above = ~(cost <= last) & (count > 0)  # also a NaN, so that it stays visible
    equal = cost == last
    return above | equal & (equal.cumsum(1) <= count - above.sum(1, keepdim=True))


def hard_negative_cross_entropy_loss(
    pred: Tensor | Sequence[Tensor],
    labels: Tensor,
    counted: Tensor | None = None,
    class_weight: Tensor | None = None,
    weight: Tensor | None = None,
    *,
    ratio: float = 3.0,
    min_neg: int = 0,
    convention: Convention = 'official',
    reduction: Reduction = 'mean',
    avg_factor: Tensor | float | None = None,
) -> Tensor:
    r"""Softmax cross-entropy over the positives and the mined negatives.

    Shape:
        pred: (B, P, C + 1) logits, the background last; or the maps of the levels, (B, A * (C +
            1), H, W) and anchor-major, with P in the order level, anchor, row, column. Maps are
            not copied.
        labels: (B, P) int64 in 0 ... C, C is the background.
        counted: (B, P) bool, false for anchors without a cost; None counts all.
        class_weight: (C + 1,) factors of the cost of an anchor, by its label.
        weight: (B, P) factors of the cost of an anchor.
        Returns a scalar, or (B, P) with ``reduction='none'``.

    Convention:
        Without ``avg_factor`` 'mean' divides the sum over the batch by the number of positives of
        the batch (at least 1), as in the paper.

    Args:
        ratio, min_neg, convention: see :func:`mine_hard_negatives`.

    Raises:
        ValueError: an unknown convention or reduction.

    Example:
        >>> hard_negative_cross_entropy_loss(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]))
        tensor(1.3863)
    """
    if isinstance(pred, Tensor):
        maps, depth = [pred.transpose(1, 2)], pred.shape[-1]
    else:
        maps, depth = list(pred), channels_per_anchor(pred, labels.shape[1])
    cost = _entropies([promote(each) for each in maps], labels, depth)
    positive = labels != depth - 1
    if class_weight is not None:
        cost = cost * class_weight[labels]
    if weight is not None:
        cost = cost * weight
    if counted is not None:
        cost, positive = torch.where(counted, cost, 0), positive & counted
    with torch.no_grad():
        mined = mine_hard_negatives(
            cost, positive, ratio=ratio, min_neg=min_neg, convention=convention
        )
    cost = torch.where(positive | mined, cost, 0)
    return reduce_loss(cost, reduction, avg_factor, count=at_least_one(positive.sum()))


def _entropies(maps: Sequence[Tensor], labels: Tensor, depth: int) -> Tensor:
    """Cross-entropy of every anchor, (B, P)."""
    costs, start = [], 0
    for each in maps:
        anchors, cells = each.shape[1] // depth, math.prod(each.shape[2:])
        rows = len(each) * anchors
        logits = each.reshape(rows, depth, cells)
        label = labels[:, start : start + anchors * cells].reshape(rows, cells)
        costs.append(chosen_cross_entropy(logits, label).view(len(each), anchors * cells))
        start += anchors * cells
    return torch.cat(costs, 1)


@MODELS.register_module()
class HardNegativeCrossEntropyLoss(LossTerm):
    """:func:`hard_negative_cross_entropy_loss` as a component, times ``loss_weight``."""

    function = staticmethod(hard_negative_cross_entropy_loss)
    fits = ('mined classes',)

    def __init__(
        self,
        ratio: float = 3.0,
        min_neg: int = 0,
        convention: Convention = 'official',
        reduction: Reduction = 'mean',
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(
            reduction, loss_weight, ratio=ratio, min_neg=min_neg, convention=convention
        )
        check_choice('convention', convention, CONVENTIONS)

    def forward(  # type: ignore[override]  # the mining replaces the weight
        self,
        pred: Tensor | Sequence[Tensor],
        labels: Tensor,
        counted: Tensor | None = None,
        class_weight: Tensor | None = None,
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,
        reduction_override: Reduction | None = None,
    ) -> Tensor:
        """See :func:`hard_negative_cross_entropy_loss`."""
        inputs = (pred, labels, counted, class_weight, weight)
        return self.evaluate(*inputs, avg_factor=avg_factor, reduction=reduction_override)
