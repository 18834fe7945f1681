r"""Penalty-reduced focal loss: CornerNet's focal loss over Gaussian heatmaps.

With score :math:`p = \sigma(x)` and target :math:`t`, a cell costs

.. math::

    -(1 - p)^\alpha \log p                  & \quad t = 1 \\
    -(1 - t)^\beta p^\alpha \log(1 - p)     & \quad t < 1

Reference:
    Law and Deng, *CornerNet: Detecting Objects as Paired Keypoints*, eq. 1.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from mmdet_losses.losses.term import LossTerm
from mmdet_losses.ops import (
    Reduction,
    Splats,
    at_least_one,
    check_choice,
    check_heatmaps,
    divisor_of,
    nonzero_divisor,
    positives_divisor,
    promote,
    reduce_loss,
    unwrap_dense,
)
from mmdet_losses.ops.kernels import focal_cost, gpu_kernels, heatmap_focal_sums, power, use_triton
from mmdet_losses.registry import MODELS

Normalizer = Literal['positives', 'positives_per_image', 'positives_all_ranks']
NORMALIZERS: tuple[str, ...] = get_args(Normalizer)
BELOW_ONE = 1 - 2**-24
"""The largest float32 below 1: as a target, a cell that is no positive and weighs 1e-29."""
ABOVE_ZERO = 1e-12
"""The smallest score: the epsilon of MMDetection's ``GaussianFocalLoss``."""


def penalty_reduced_focal_loss(
    pred: Tensor,
    target: Tensor | Splats,
    weight: Tensor | None = None,
    *,
    alpha: float = 2.0,
    beta: float = 4.0,
    activated: bool = False,
    clamp: float | None = None,
    normalizer: Normalizer = 'positives',
    reduction: Reduction = 'mean',
    avg_factor: Tensor | float | None = None,
) -> Tensor:
    r"""Focal loss whose negatives cost less near an object.

    Shape:
        pred: (B, C, H, W), or (N, C) as one image; logits, or scores if ``activated``.
        target: the same shape, in [0, 1]; or the same map as :class:`~mmdet_losses.ops.Splats`.
        weight: broadcasts to ``pred``; a factor on every cell, 0 for ignored cells.
        Returns a scalar, or the shape of ``pred`` with ``reduction='none'``.

    Raises:
        ValueError: an unknown reduction or normalizer, or shapes that do not match.

    Example:
        >>> logits, target = torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 0.5]]]])
        >>> penalty_reduced_focal_loss(logits, target)
        tensor(0.1841)
    """
    check_choice('normalizer', normalizer, NORMALIZERS)
    check_heatmaps(pred, target)
    target = unwrap_dense(target)
    weight = None if weight is None else promote(weight).expand(pred.shape)
    logits, bounds = logits_and_bounds(pred, activated, clamp)
    if reduction == 'none':
        x = promote(logits if bounds is None else logits.clamp(*bounds))
        t = (target.dense() if isinstance(target, Splats) else target).to(x.dtype)
        positive = focal_cost(-x, alpha)  # -(1 - p)^alpha log(p)
        negative = power(1 - t, beta) * focal_cost(x, alpha)  # -(1 - t)^beta p^alpha log(1 - p)
        cost = torch.where(t == 1, positive, negative)
        return cost if weight is None else cost * weight

    splats, of_image = isinstance(target, Splats), normalizer == 'positives_per_image'
    if use_triton(logits) and (splats or not of_image):
        divisor = divisor_of(reduction, avg_factor, None)
        if divisor is None and (not splats or normalizer == 'positives_all_ranks'):
            divisor = positives_divisor(count_positives(target, weight), normalizer)
        inputs = (logits, target, weight, alpha, beta, bounds)
        return gpu_kernels('focal').heatmap_focal(*inputs, divisor, per_image=of_image)
    divisor = divisor_of(reduction, avg_factor, None)
    if divisor is None:
        counts = count_positives(target, weight)
        if not of_image:
            divisor = positives_divisor(counts, normalizer)
        elif pred.dim() == 2:
            divisor = at_least_one(counts.sum())
        else:
            divisor = at_least_one(counts) * len(counts)
    divisor = nonzero_divisor(divisor)
    per_image = heatmap_focal_sums(logits, target, weight, alpha, beta, bounds, divisor)
    return (per_image / divisor).sum() if of_image else per_image.sum() / divisor


def logits_and_bounds(
    pred: Tensor, activated: bool, clamp: float | None
) -> tuple[Tensor, tuple[float, float] | None]:
    """The logits of a prediction, and the range to which ``clamp`` restricts them.

    Scores are clamped at once; without ``clamp`` to the range where their logit is finite.
    """
    if activated:
        low, high = (ABOVE_ZERO, BELOW_ONE) if clamp is None else (clamp, 1 - clamp)
        return torch.logit(promote(pred).clamp(_float32(low), _float32(high))), None
    if clamp is None:
        return pred, None
    low, high = _float32(clamp), _float32(1 - clamp)
    return pred, (math.log(low / (1 - low)), math.log(high / (1 - high)))


def _float32(value: float) -> float:
    """The nearest float32 number, by arithmetic that torch.compile captures."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(math.ldexp(mantissa, 24)), exponent - 24)


def count_positives(target: Tensor | Splats, weight: Tensor | None = None) -> Tensor:
    """Number of cells per image whose target is 1 and whose weight is not 0: (B,) int64."""
    if isinstance(target, Splats):
        positive = target.value == 1
        if weight is not None:
            positive = positive & (weight.reshape(-1)[target.index] != 0)
        counts = target.index.new_zeros(target.shape[0])
        return counts.index_add(0, target.index // math.prod(target.shape[1:]), positive.long())
    positive = target == 1
    return (positive if weight is None else positive & (weight != 0)).flatten(1).sum(1)


def given_positives_focal(
    pred: Tensor,
    target: Tensor | Splats,
    cells: Tensor,
    weight: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    alpha: float,
    beta: float,
    activated: bool = False,
    clamp: float | None = None,
    pos_weight: float = 1.0,
    neg_weight: float = 1.0,
    reduction: Reduction = 'mean',
    avg_factor: Tensor | float | None = None,
    count: Tensor | int = 1,
) -> Tensor:
    """Sum over positives that are given by their cells, and over all cells as negatives.

    Shape:
        pred, target, weight: as in :func:`penalty_reduced_focal_loss`; the target decides the
            weight of the negatives only.
        cells: (n,) int64 flat indices into ``pred``; one cell may occur several times.
        mask: (n,) bool, the cells that count; or float, their factors.
        Returns a scalar.

    Args:
        count: what 'mean' divides by without ``avg_factor``.

    Raises:
        ValueError: ``reduction='none'``, because positives and cells have no common shape.
    """
    if reduction == 'none':
        raise ValueError("reduction='none' has no single shape here; choose 'mean' or 'sum'.")
    # Targets above 1 stay: in images without objects CenterNet-update sets the number of classes.
    if isinstance(target, Splats):
        target = target._replace(value=target.value.masked_fill(target.value == 1, BELOW_ONE))
    else:
        target = target.masked_fill(target == 1, BELOW_ONE)
    if use_triton(pred) and (pos_weight, neg_weight) == (1, 1):
        check_heatmaps(pred, target)
        target = unwrap_dense(target)
        weight = None if weight is None else weight.expand(pred.shape)
        logits, bounds = logits_and_bounds(pred, activated, clamp)
        divisor = divisor_of(reduction, avg_factor, count)
        inputs = (logits, target, weight, alpha, beta, bounds, divisor)
        return gpu_kernels('focal').heatmap_focal(*inputs, objects=(cells, mask))
    options: dict[str, Any] = {'alpha': alpha, 'beta': beta, 'activated': activated, 'clamp': clamp}
    negative = penalty_reduced_focal_loss(pred, target, weight, reduction='sum', **options)
    x, bounds = logits_and_bounds(pred.reshape(-1).gather(0, cells), activated, clamp)
    x = promote(x if bounds is None else x.clamp(*bounds))
    positive = focal_cost(-x, alpha)
    if mask is not None:
        positive = torch.where(mask != 0, positive * mask, 0)
    total = pos_weight * positive.sum() + neg_weight * negative
    return reduce_loss(total, reduction, avg_factor, count)


@MODELS.register_module()
class PenaltyReducedFocalLoss(LossTerm):
    """:func:`penalty_reduced_focal_loss` as a component.

    Convention:
        Positives are the cells whose target is exactly 1 and whose weight is not 0; two objects in
        one cell are one positive. The sum over all cells is divided by their number, or left
        undivided if it is 0. The official codes clamp scores to [1e-4, 1 - 1e-4]
        (``clamp=1e-4``), and outside this range the gradient is exactly 0. Without a clamp a
        confidently wrong cell keeps its gradient.

        It replaces ``GaussianFocalLoss`` in the heads of MMDetection, which pass scores: set
        ``activated=True`` there. CenterNet-update passes its positives as ``pos_inds`` and
        ``pos_labels``; then the target decides the weight of the negatives only.

    Args:
        alpha: exponent of the distance between score and target.
        beta: exponent of 1 - t. MMDetection calls it ``gamma``, which is accepted as well.
        activated: ``pred`` holds scores, as in the heads of MMDetection.
        clamp: smallest distance of a score from 0 and 1, rounded to float32 as in the official
            codes; None does not clamp.
        normalizer: what 'mean' divides by without ``avg_factor``: 'positives' of the batch
            (official); 'positives_per_image': each image by its own, then the mean over images;
            'positives_all_ranks': positives averaged over all training processes.
        loss_weight: factor on the result.
        pos_weight, neg_weight: factors on positives and on negatives.
        compile: compile the formula with ``torch.compile``, once for the first batch and once
            for splats of any number; useful on a GPU.
    """

    function = staticmethod(penalty_reduced_focal_loss)
    accepts_splats = True
    fits = ('heatmaps', 'heatmaps with positives')
    alpha: float
    beta: float
    activated: bool
    clamp: float | None

    def __init__(
        self,
        alpha: float = 2.0,
        beta: float = 4.0,
        activated: bool = False,
        clamp: float | None = None,
        normalizer: Normalizer = 'positives',
        reduction: Reduction = 'mean',
        loss_weight: float = 1.0,
        pos_weight: float = 1.0,
        neg_weight: float = 1.0,
        gamma: float | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(
            reduction,
            loss_weight,
            alpha=alpha,
            beta=beta if gamma is None else gamma,
            activated=activated,
            clamp=clamp,
            normalizer=normalizer,
        )
        check_choice('normalizer', normalizer, NORMALIZERS)
        self.pos_weight, self.neg_weight = pos_weight, neg_weight
        if compile:
            self.function = torch.compile(penalty_reduced_focal_loss)

    def forward(
        self,
        pred: Tensor,
        target: Tensor | Splats,
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,
        reduction_override: Reduction | None = None,
        pos_inds: Tensor | None = None,
        pos_labels: Tensor | None = None,
    ) -> Tensor:
        """See the class; ``pos_inds`` (n,) are rows of ``pred`` (N, C), with their classes."""
        if pos_inds is not None and pos_labels is not None:
            cells = pos_inds * pred.shape[-1] + pos_labels
            return self.loss_weight * given_positives_focal(
                *(pred, target, cells, weight),
                alpha=self.alpha,
                beta=self.beta,
                activated=self.activated,
                clamp=self.clamp,
                pos_weight=self.pos_weight,
                neg_weight=self.neg_weight,
                reduction=reduction_override or self.reduction,
                avg_factor=avg_factor,
                count=max(len(cells), 1),
            )
        if (self.pos_weight, self.neg_weight) != (1, 1):
            dense = target.dense() if isinstance(target, Splats) else target
            factor = torch.where(dense == 1, self.pos_weight, self.neg_weight)
            weight = factor if weight is None else factor * weight
        return super().forward(pred, target, weight, avg_factor, reduction_override)
