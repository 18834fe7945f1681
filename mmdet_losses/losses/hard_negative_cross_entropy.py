"""Hard negative mining: cross-entropy over objects and the worst of the background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmdet_losses.ops import REDUCTIONS, Reduction, check_choice, promote
from mmdet_losses.registry import MODELS

Convention = Literal['official', 'summary', 'mmdet']
_CONVENTIONS = ('official', 'summary', 'mmdet')


def mine_hard_negatives(
    cost: Tensor,
    positive: Tensor,
    *,
    ratio: float = 3.0,
    min_neg: int = 0,
    convention: Convention = 'official',
) -> Tensor:
    """Which background priors of each image count: those with the highest cost.

    Shape:
        cost: (B, P), of every prior.
        positive: (B, P) bool.
        Returns (B, P) bool, disjoint from ``positive``.

    Convention:
        ``ratio`` negatives for each positive of the image, at most P - 1 ('official',
        ssd.pytorch), P ('summary', published notes on the loss) or the number of negatives
        ('mmdet'). Positives compete with a cost of 0, so none is counted twice. Equal costs rank
        by position.

    Args:
        min_neg: negatives of an image with few positives or none; 0 is the original, where a
            picture of background teaches nothing.

    Raises:
        ValueError: an unknown convention.
    """
    check_choice('convention', convention, _CONVENTIONS)
    priors = cost.shape[1]
    wanted = (positive.sum(1, keepdim=True) * ratio).clamp(min=min_neg)
    if convention == 'mmdet':
        wanted = torch.minimum(wanted, (~positive).sum(1, keepdim=True))
    else:
        wanted = wanted.clamp(max=priors - 1 if convention == 'official' else priors)
    ranked = torch.where(positive, 0, cost).sort(dim=1, descending=True, stable=True).indices
    chosen = (torch.arange(priors, device=cost.device) < wanted).expand_as(ranked)
    return torch.zeros_like(positive).scatter(1, ranked, chosen) & ~positive


def hard_negative_cross_entropy_loss(
    pred: Tensor | Sequence[Tensor],
    labels: Tensor,
    *,
    ratio: float = 3.0,
    min_neg: int = 0,
    convention: Convention = 'official',
    reduction: Reduction = 'mean',
    avg_factor: Tensor | float | None = None,
) -> Tensor:
    r"""Softmax cross-entropy over the positives and the mined negatives.

    With the positives :math:`P`, the mined negatives :math:`N` and labels :math:`c_i`

    .. math::

        \frac{1}{|P|} \Big[ - \sum_{i \in P} \log \mathrm{softmax}(x_i)_{c_i}
        - \sum_{i \in N} \log \mathrm{softmax}(x_i)_C \Big]

    Shape:
        pred: (B, P, C + 1) logits, the background last; or the maps themselves, (B, A * (C + 1),
            H, W) each and anchor-major, with P in the order level, anchor, row, column, which
            spares copying them.
        labels: (B, P) int64 in 0 ... C, C is the background.
        Returns a scalar, or (B, P) with ``reduction='none'``.

    Convention:
        'mean' divides the sum over the batch by the number of positives of the batch (at least
        1), as the paper does, unless ``avg_factor`` says else.

    Args:
        ratio, min_neg, convention: see :func:`mine_hard_negatives`.

    Raises:
        ValueError: an unknown convention or reduction.

    Example:
        >>> hard_negative_cross_entropy_loss(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]))
        tensor(1.3863)

    Source:
        Liu et al., *SSD: Single Shot MultiBox Detector*, section 2.2.
    """
    check_choice('reduction', reduction, REDUCTIONS)
    maps = [pred] if isinstance(pred, Tensor) else list(pred)
    depth = pred.shape[-1] if isinstance(pred, Tensor) else _depth(maps, labels)
    if isinstance(pred, Tensor):
        maps = [pred.transpose(1, 2)]
    cost = _entropies([promote(each) for each in maps], labels, depth)
    positive = labels != depth - 1
    with torch.no_grad():
        mined = mine_hard_negatives(
            cost, positive, ratio=ratio, min_neg=min_neg, convention=convention
        )
    cost = torch.where(positive | mined, cost, 0)
    if reduction == 'none':
        return cost
    if reduction == 'sum':
        return cost.sum()
    return cost.sum() / (positive.sum().clamp(min=1) if avg_factor is None else avg_factor)


def _depth(maps: Sequence[Tensor], labels: Tensor) -> int:
    """C + 1, from the number of logits and of priors."""
    logits = sum(each[0].numel() for each in maps)
    if logits % labels.shape[1]:
        raise ValueError(
            f'The maps have {logits} logits an image for {labels.shape[1]} priors, which is no '
            'whole number; give head and encoder the same anchors.'
        )
    return logits // labels.shape[1]


def _entropies(maps: Sequence[Tensor], labels: Tensor, depth: int) -> Tensor:
    """Cross-entropy of every prior, (B, P)."""
    entropy = _entropy if torch.compiler.is_compiling() else _CrossEntropy.apply
    costs, start = [], 0
    for each in maps:
        logits = each.reshape(len(each), -1, depth, each[0, 0].numel()).flatten(0, 1)
        count = logits.shape[0] // len(each) * logits.shape[2]
        label = labels[:, start : start + count].reshape(logits.shape[0], -1)
        costs.append(entropy(logits, label).view(len(each), count))
        start += count
    return torch.cat(costs, 1)


def _entropy(logits: Tensor, label: Tensor) -> Tensor:
    return F.cross_entropy(logits, label, reduction='none')


class _CrossEntropy(torch.autograd.Function):
    """Cross-entropy over dimension 1 whose gradient is computed for the chosen priors alone.

    On the CPU these are looked up; elsewhere that would need the device's answer first.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, label: Tensor) -> Tensor:
        logs = logits.log_softmax(1)
        ctx.save_for_backward(logs, label)
        return -logs.gather(1, label[:, None]).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Softmax minus one-hot, at the priors that ``grad`` chose."""
        logs, label = ctx.saved_tensors
        if grad.device.type != 'cpu' or type(grad) is not Tensor:
            slopes = logs.exp().mul_(grad[:, None])
            return slopes.scatter_add_(1, label[:, None], -grad[:, None]), None
        row, column = grad.nonzero(as_tuple=True)
        chosen = logs[row, :, column].exp_()
        chosen.scatter_add_(1, label[row, column][:, None], -torch.ones_like(chosen[:, :1]))
        slopes = torch.zeros_like(logs)
        slopes[row, :, column] = chosen * grad[row, column][:, None]
        return slopes, None


@MODELS.register_module()
class HardNegativeCrossEntropyLoss(nn.Module):
    """:func:`hard_negative_cross_entropy_loss` as a component, times ``loss_weight``."""

    def __init__(
        self,
        ratio: float = 3.0,
        min_neg: int = 0,
        convention: Convention = 'official',
        reduction: Reduction = 'mean',
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_choice('reduction', reduction, REDUCTIONS)
        check_choice('convention', convention, _CONVENTIONS)
        self.ratio, self.min_neg, self.convention = ratio, min_neg, convention
        self.reduction, self.loss_weight = reduction, loss_weight

    def forward(
        self,
        pred: Tensor | Sequence[Tensor],
        labels: Tensor,
        avg_factor: Tensor | float | None = None,
        reduction_override: Reduction | None = None,
    ) -> Tensor:
        """See :func:`hard_negative_cross_entropy_loss`."""
        return self.loss_weight * hard_negative_cross_entropy_loss(
            pred,
            labels,
            ratio=self.ratio,
            min_neg=self.min_neg,
            convention=self.convention,
            reduction=reduction_override or self.reduction,
            avg_factor=avg_factor,
        )
