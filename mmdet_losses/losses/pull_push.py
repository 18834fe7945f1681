r"""Pull and push: tags by which the two corners of an object find each other.

With tags :math:`t_k, b_k` of the N objects of an image, their mean :math:`m_k` and
:math:`\epsilon = 10^{-4}`

.. math::

    pull &= \frac{1}{N + \epsilon} \sum_k (t_k - m_k)^2 + (b_k - m_k)^2 \\
    push &= \frac{1}{N (N - 1) + \epsilon} \sum_{j, k}
            \max(0, 1 - |m_j - m_k|) - \frac{1}{N + \epsilon}

Newell, Huang and Deng, *Associative Embedding*; Law and Deng, *CornerNet*, eq. 4 and 5.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmdet_losses.ops import REDUCTIONS, Reduction, check_choice, promote
from mmdet_losses.registry import MODELS


def pull_push_loss(
    tl: Tensor,
    br: Tensor,
    mask: Tensor,
    *,
    margin: float = 1.0,
    eps: float = 1e-4,
    reduction: Reduction = 'sum',
) -> tuple[Tensor, Tensor]:
    r"""Draw the tags of one object together, and the objects of one image apart.

    Shape:
        tl, br: (B, M) or (B, M, 1); tags of both corners of M object slots.
        mask: (B, M) bool.
        Returns pull and push, scalars, or (B,) each with ``reduction='none'``.

    Convention:
        The official code sums over all pairs, j = k included, takes the diagonal's N back out as
        N² / (N + eps), and sums over images: the term grows with the images of a process. An
        image with one object, where the paper's push is undefined, then gets a constant of about
        1 without gradient. ``eps=0`` is the paper's formula, without the 1e-4, with 0 for one
        object (as MMDetection has it). Empty slots never count, not even as NaN.

    Args:
        margin: mean tags further apart than this no longer push.
        reduction: over images.

    Raises:
        ValueError: an unknown reduction, or tags of more than one number.

    Example:
        >>> tags, mask = torch.tensor([[0.0, 0.5]]), torch.tensor([[True, True]])
        >>> pull_push_loss(tags, tags, mask, eps=0)
        (tensor(0.), tensor(0.5000))
    """
    check_choice('reduction', reduction, REDUCTIONS)
    tl, br = (_flat_tags(tags, mask) for tags in (tl, br))
    mask = mask.bool()
    zero = tl.new_zeros(())
    tl, br = torch.where(mask, tl, zero), torch.where(mask, br, zero)
    mean = (tl + br) / 2
    count = mask.sum(1).to(tl.dtype)
    objects, pairs = count + eps, count * (count - 1) + eps
    if eps == 0:
        objects, pairs = objects.clamp(min=1), pairs.clamp(min=1)
    pull = (((tl - mean).square() + (br - mean).square()) / objects[:, None]).sum(1)

    closeness = (margin - (mean[:, :, None] - mean[:, None, :]).abs()).relu()
    excess = (closeness - (margin / objects)[:, None, None]) / pairs[:, None, None]
    both = mask[:, :, None] & mask[:, None, :]
    push = torch.where(both, excess, zero).sum((1, 2))
    if reduction == 'none':
        return pull, push
    return (pull.sum(), push.sum()) if reduction == 'sum' else (pull.mean(), push.mean())


def _flat_tags(tags: Tensor, mask: Tensor) -> Tensor:
    """(B, M) tags in at least float32."""
    if tags.shape != mask.shape and tags.shape != (*mask.shape, 1):
        raise ValueError(
            f'Tags have shape {tuple(tags.shape)} but their mask {tuple(mask.shape)}; an object '
            'has one tag a corner: give (B, M) or (B, M, 1).'
        )
    return promote(tags).reshape(mask.shape)


@MODELS.register_module(name=['PullPushLoss', 'AELoss'])
class PullPushLoss(nn.Module):
    """:func:`pull_push_loss` as a component; returns pull and push, each times its weight."""

    def __init__(
        self,
        pull_weight: float = 0.1,
        push_weight: float = 0.1,
        margin: float = 1.0,
        eps: float = 1e-4,
        reduction: Reduction = 'sum',
    ) -> None:
        super().__init__()
        check_choice('reduction', reduction, REDUCTIONS)
        self.pull_weight, self.push_weight = pull_weight, push_weight
        self.margin, self.eps, self.reduction = margin, eps, reduction

    def forward(self, tl: Tensor, br: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """See :func:`pull_push_loss`."""
        pull, push = pull_push_loss(
            tl, br, mask, margin=self.margin, eps=self.eps, reduction=self.reduction
        )
        return self.pull_weight * pull, self.push_weight * push
