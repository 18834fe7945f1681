r"""Pull and push: embeddings by which the two corners of an object are paired.

With the embeddings :math:`t_k, b_k` of the N objects of an image, their mean :math:`m_k` and
:math:`\epsilon = 10^{-4}`

.. math::

    pull &= \frac{1}{N + \epsilon} \sum_k (t_k - m_k)^2 + (b_k - m_k)^2 \\
    push &= \frac{1}{N (N - 1) + \epsilon} \sum_{j, k}
            \max(0, 1 - |m_j - m_k|) - \frac{1}{N + \epsilon}

Reference:
    Newell, Huang and Deng, *Associative Embedding*; Law and Deng, *CornerNet*, eq. 4 and 5.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmdet_losses.losses.slots import Kind, check_slot
from mmdet_losses.ops import (
    REDUCTIONS,
    Reduction,
    check_choice,
    constant,
    gather_cells,
    promote,
    reduce_loss,
    zero_unless,
)
from mmdet_losses.registry import MODELS

CornerLists = Sequence[Sequence[tuple[tuple[int, int], tuple[int, int]]]]
"""For each image and object: (y, x) of the top-left corner and (y, x) of the bottom-right one."""


def pull_push_loss(
    tl: Tensor,
    br: Tensor,
    mask: Tensor,
    weight: Tensor | None = None,
    *,
    margin: float = 1.0,
    eps: float = 1e-4,
    reduction: Reduction = 'sum',
) -> tuple[Tensor, Tensor]:
    r"""Pull the embeddings of one object together, push the objects of one image apart.

    Shape:
        tl, br: (B, M) or (B, M, 1); embeddings of both corners of M object slots.
        mask: (B, M) bool.
        weight: (B, M) factors of the objects; a pair has the mean of both. None: 1.
        Returns pull and push, scalars, or (B,) each with ``reduction='none'``.

    Convention:
        The official code sums over all pairs including j = k, subtracts the diagonal's N as
        N² / (N + eps), and sums over images, so the terms grow with the number of images. For one
        object, where the paper does not define push, it is a constant of about 1 without a
        gradient. ``eps=0`` is the formula of the paper without the 1e-4, with a push of 0 for one
        object (as in MMDetection). Empty slots have no effect, even if they are NaN.

    Args:
        margin: mean embeddings that differ by more than this do not push.
        reduction: over images.

    Raises:
        ValueError: an unknown reduction, or embeddings of more than one number.

    Example:
        >>> embeddings, mask = torch.tensor([[0.0, 0.5]]), torch.tensor([[True, True]])
        >>> pull_push_loss(embeddings, embeddings, mask, eps=0)
        (tensor(0.), tensor(0.5000))
    """
    mask = mask.bool()
    corners = zero_unless(mask, torch.stack([_flat(each, mask) for each in (tl, br)]))
    mean, (tl, br) = corners.mean(0), corners.unbind()
    count = mask.sum(1, dtype=tl.dtype)
    objects, pairs = count + eps, count * (count - 1) + eps
    if eps == 0:
        objects, pairs = objects.clamp(min=1), pairs.clamp(min=1)
    apart = (tl - br).square()  # twice the sum of both squared distances to the mean
    apart = apart if weight is None else apart * weight
    pull = apart / (2 * objects)[:, None]

    closeness = (margin - (mean[:, :, None] - mean[:, None, :]).abs()).relu()
    excess = closeness - (constant(margin, objects) / objects)[:, None, None]
    share = (mask[:, :, None] & mask[:, None, :]) / pairs[:, None, None]
    if weight is not None:
        share = share * (weight[:, :, None] + weight[:, None, :]) / 2
    return _over_images(pull, reduction), _over_images(excess * share, reduction)


def _over_images(values: Tensor, reduction: Reduction) -> Tensor:
    """Sums of the values (B, ...) of each image, reduced over images."""
    if reduction == 'sum':
        return values.sum()
    return reduce_loss(values.flatten(1).sum(1), reduction)


def _flat(embeddings: Tensor, mask: Tensor) -> Tensor:
    """Embeddings as (B, M), in at least float32."""
    if embeddings.shape not in (mask.shape, (*mask.shape, 1)):
        raise ValueError(
            f'The embeddings have shape {tuple(embeddings.shape)} but their mask '
            f'{tuple(mask.shape)}; give one number per corner, as (B, M) or (B, M, 1).'
        )
    return promote(embeddings).reshape(mask.shape)


def gather_matches(tl: Tensor, br: Tensor, match: CornerLists) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings at lists of corners, as MMDetection's ``CornerHead`` passes them.

    Shape:
        tl, br: (B, D, H, W) maps.
        Returns tl, br (B, M, D) and mask (B, M), for M objects in the fullest image.
    """
    slots = max((len(objects) for objects in match), default=0)
    empty = ((0, 0), (0, 0))
    corners = torch.tensor(
        [[*objects, *[empty] * (slots - len(objects))] for objects in match], device=tl.device
    ).reshape(len(match), slots, 2, 2)
    index = corners[..., 0] * tl.shape[-1] + corners[..., 1]
    count = torch.tensor([len(objects) for objects in match], device=tl.device)
    mask = torch.arange(slots, device=tl.device) < count[:, None]
    return gather_cells(tl, index[..., 0].long()), gather_cells(br, index[..., 1].long()), mask


@MODELS.register_module(name=['PullPushLoss', 'AELoss'])
class PullPushLoss(nn.Module):
    """:func:`pull_push_loss` as a component; returns pull and push, each times its weight.

    It replaces ``AssociativeEmbeddingLoss`` in MMDetection's ``CornerHead``, which passes maps
    and lists of corners.

    Args:
        pull_weight, push_weight: factors on the results.
        margin: mean embeddings that differ by more than this do not push.
        eps: 1e-4 is the official formula, 0 that of the paper and of MMDetection. None is 1e-4
            for gathered embeddings and 0 for lists of corners.
        reduction: over images.
    """

    fits: tuple[Kind, ...] = ('embeddings',)
    check_slot = check_slot
    use_sigmoid = False

    def __init__(
        self,
        pull_weight: float = 0.1,
        push_weight: float = 0.1,
        margin: float = 1.0,
        eps: float | None = None,
        reduction: Reduction = 'sum',
    ) -> None:
        super().__init__()
        check_choice('reduction', reduction, REDUCTIONS)
        self.pull_weight, self.push_weight = pull_weight, push_weight
        self.margin, self.eps, self.reduction = margin, eps, reduction

    def forward(
        self,
        tl: Tensor,
        br: Tensor,
        mask: Tensor | CornerLists,
        weight: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See :func:`pull_push_loss`."""
        eps = 1e-4
        if not isinstance(mask, Tensor):
            tl, br, mask = gather_matches(tl, br, mask)
            eps = 0.0
        eps = eps if self.eps is None else self.eps
        pull, push = pull_push_loss(
            tl, br, mask, weight, margin=self.margin, eps=eps, reduction=self.reduction
        )
        return self.pull_weight * pull, self.push_weight * push
