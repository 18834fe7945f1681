r"""Penalty-reduced focal loss: CornerNet's focal loss over Gaussian heatmaps.

With score :math:`p = \sigma(x)` and target :math:`t`, a cell costs

.. math::

    -(1 - p)^\alpha \log p                  & \quad t = 1 \\
    -(1 - t)^\beta p^\alpha \log(1 - p)     & \quad t < 1

Law and Deng, *CornerNet: Detecting Objects as Paired Keypoints*, eq. 1.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmdet_losses.ops import (
    REDUCTIONS,
    Reduction,
    Splats,
    at_least_one,
    check_choice,
    positives_divisor,
    promote,
    unlisted,
)
from mmdet_losses.registry import MODELS

Normalizer = Literal['positives', 'positives_per_image', 'positives_all_ranks']
NORMALIZERS: tuple[str, ...] = get_args(Normalizer)


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
    r"""Focal loss whose negatives count less the nearer they are to an object.

    Shape:
        pred: (B, C, H, W) logits, or scores if ``activated``.
        target: (B, C, H, W) in [0, 1], or the same map as :class:`~mmdet_losses.ops.Splats`.
        weight: broadcasts to (B, C, H, W); a factor on every cell, 0 for cells that do not count.
        Returns a scalar, or (B, C, H, W) with ``reduction='none'``.

    Convention:
        Positives are the cells whose target equals 1 exactly (and whose weight is not 0); two
        objects in one cell are one positive. The sum over all cells is divided by their number,
        and left undivided where there are none. Computed from logits without a clamp, a
        confidently wrong cell keeps its gradient; the official codes clamp scores to
        [1e-4, 1 - 1e-4] (``clamp=1e-4``), beyond which it is exactly zero.

    Args:
        alpha: exponent of the score's distance from its target.
        beta: exponent of :math:`1 - t`.
        activated: ``pred`` holds scores; they are clamped, by 1e-4 unless ``clamp`` says else.
        clamp: smallest distance of a score from 0 and 1 (its upper bound rounded to float32, as
            in the official codes); ``None`` does not clamp.
        normalizer: what 'mean' divides by: 'positives' of the batch (official);
            'positives_per_image': each image by its own, then the mean over images;
            'positives_all_ranks': positives averaged over all training processes.
        avg_factor: divides the sum instead.

    Raises:
        ValueError: an unknown reduction or normalizer, or shapes that do not match.

    Example:
        >>> logits, target = torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 0.5]]]])
        >>> penalty_reduced_focal_loss(logits, target)
        tensor(0.1841)
    """
    check_choice('reduction', reduction, REDUCTIONS)
    check_choice('normalizer', normalizer, NORMALIZERS)
    if tuple(pred.shape) != tuple(target.shape):
        raise ValueError(
            f'The heatmap has shape {tuple(pred.shape)} but its target {tuple(target.shape)}; '
            'num_classes and the stride of head and encoder must agree.'
        )
    target = unlisted(target)
    logits = pred
    if activated:
        clamp = 1e-4 if clamp is None else clamp
        logits = torch.logit(promote(pred).clamp(*_score_bounds(clamp)))
    low, high = (-math.inf, math.inf) if clamp is None or activated else logit_bounds(clamp)
    if weight is not None:
        weight = promote(weight).expand(pred.shape)
    if reduction == 'none':
        return _plain_map(promote(logits), target, weight, alpha, beta, low, high)

    if torch.compiler.is_compiling():
        per_image = _plain_sums(promote(logits), target, weight, alpha, beta, low, high)
    else:
        index, value = (
            (target.index, target.value) if isinstance(target, Splats) else (None, target)
        )
        per_image = _FocalSums.apply(logits, index, value, weight, alpha, beta, low, high)
    if reduction == 'sum':
        return per_image.sum()
    if avg_factor is not None:
        return per_image.sum() / avg_factor
    counts = count_positives(target, weight)
    if normalizer == 'positives_per_image':
        return (per_image / at_least_one(counts)).mean()
    return per_image.sum() / positives_divisor(counts, normalizer)


def count_positives(target: Tensor | Splats, weight: Tensor | None = None) -> Tensor:
    """Cells of each image whose target is 1 and whose weight is not 0: (B,) int64."""
    if not isinstance(target, Splats):
        positive = target == 1
        if weight is not None:
            positive = positive & (weight != 0)
        return positive.flatten(1).sum(1)
    positive = target.value == 1
    if weight is not None:
        positive = positive & (weight.reshape(-1)[target.index] != 0)
    counts = target.index.new_zeros(target.shape[0])
    return counts.index_add(0, target.index // math.prod(target.shape[1:]), positive.long())


def _score_bounds(clamp: float) -> tuple[float, float]:
    """The clamp's two float32 scores: 1 - 1e-4 is not a float32 number."""
    return _float32(clamp), _float32(1 - clamp)


def _float32(value: float) -> float:
    """The nearest float32 number; plain arithmetic, which torch.compile captures."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(math.ldexp(mantissa, 24)), exponent - 24)


def logit_bounds(clamp: float) -> tuple[float, float]:
    """The logits of scores ``clamp`` and 1 - ``clamp``, both rounded to float32."""
    low, high = _score_bounds(clamp)
    return math.log(low / (1 - low)), math.log(high / (1 - high))


def _power(base: Tensor, exponent: float) -> Tensor:
    if exponent == 2:
        return base.square()
    return base.square().square() if exponent == 4 else base.pow(exponent)


def focal_background_cost(x: Tensor, alpha: float) -> Tensor:
    r""":math:`-p^\alpha \log(1 - p)`; the positive's cost is the same at :math:`-x`."""
    return _power(x.sigmoid(), alpha) * F.softplus(x)


def _background_slope(
    x: Tensor, alpha: float, low: float, high: float, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Background cost and its derivative (in ``out``), exactly zero outside [low, high]."""
    if math.isfinite(low):
        clamped = x.clamp(low, high)
        cost, slope = _background_slope(clamped, alpha, -math.inf, math.inf, out)
        return cost, slope.mul_(clamped == x)
    score, soft = x.sigmoid(), F.softplus(x)
    # d/dx p^a softplus = p^a (a (1 - p) softplus + p)
    slope = torch.neg(score, out=out).add_(1).mul_(soft).mul_(alpha).add_(score)
    power = score.square_() if alpha == 2 else score.pow_(alpha)
    return soft.mul_(power), slope.mul_(power)


def _cell_cost(x: Tensor, t: Tensor, alpha: float, beta: float) -> Tensor:
    negative = _power(1 - t, beta) * focal_background_cost(x, alpha)
    return torch.where(t == 1, focal_background_cost(-x, alpha), negative)


def _plain_map(
    x: Tensor,
    target: Tensor | Splats,
    weight: Tensor | None,
    alpha: float,
    beta: float,
    low: float,
    high: float,
) -> Tensor:
    """The formula, cell by cell; autograd differentiates it."""
    x = x.clamp(low, high) if math.isfinite(low) else x
    dense = target.dense() if isinstance(target, Splats) else target
    cost = _cell_cost(x, dense.to(x.dtype), alpha, beta)
    return cost if weight is None else cost * weight


def _plain_sums(
    x: Tensor,
    target: Tensor | Splats,
    weight: Tensor | None,
    alpha: float,
    beta: float,
    low: float,
    high: float,
) -> Tensor:
    """The sum of each image, for torch.compile: (B,)."""
    if not isinstance(target, Splats):
        return _plain_map(x, target, weight, alpha, beta, low, high).flatten(1).sum(1)
    x = x.clamp(low, high) if math.isfinite(low) else x
    background = focal_background_cost(x, alpha)
    background = background if weight is None else background * weight
    cells, t = x.reshape(-1)[target.index], target.value.to(x.dtype)
    correction = _cell_cost(cells, t, alpha, beta) - focal_background_cost(cells, alpha)
    if weight is not None:
        correction = correction * weight.reshape(-1)[target.index]
    correction = torch.where(t > 0, correction, 0)
    image = target.index // math.prod(target.shape[1:])
    return background.flatten(1).sum(1).index_add(0, image, correction)


class _FocalSums(torch.autograd.Function):
    """The sum of each image, with its gradient computed in the same pass.

    Logits are walked over once, a chunk that fits the cache at a time, as if everything were
    background; splats then correct the few cells that are not. Nothing but the gradient is kept,
    not even the logits. ``index`` None means that ``value`` is the dense target. Half precision is
    promoted chunk by chunk, so that no second map of logits exists.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        index: Tensor | None,
        value: Tensor,
        weight: Tensor | None,
        alpha: float,
        beta: float,
        low: float,
        high: float,
    ) -> Tensor:
        """(B,) sums; the gradient waits in ``ctx`` for backward."""
        sums, slopes = _sums_and_slopes(logits, index, value, weight, alpha, beta, low, high)
        ctx.save_for_backward(slopes)
        ctx.dtype = logits.dtype
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        scale = grad.view(-1, *[1] * (slopes.dim() - 1))
        # a graph that is kept may be walked again; of any other, nobody else needs the slopes
        slopes = slopes * scale if _graph_is_kept() else slopes.mul_(scale)
        return (slopes.to(ctx.dtype), *[None] * 7)


def _graph_is_kept() -> bool:
    """Whether the backward pass that runs keeps its graph; True where PyTorch cannot tell."""
    ask = getattr(torch._C._autograd, '_get_current_graph_task_keep_graph', None)
    return ask is None or ask()


def _sums_and_slopes(
    logits: Tensor,
    index: Tensor | None,
    value: Tensor,
    weight: Tensor | None,
    alpha: float,
    beta: float,
    low: float,
    high: float,
) -> tuple[Tensor, Tensor]:
    x = logits.detach().contiguous()
    slopes = torch.empty_like(x, dtype=promote(x.new_empty(0)).dtype)
    sums = slopes.new_zeros(x.shape[0])
    dense = None if index is not None else value.detach().to(slopes.dtype).contiguous()
    factor = None if weight is None else weight.detach().contiguous()
    if factor is not None and factor.dtype != torch.bool:  # which stays a byte a cell
        factor = factor.to(slopes.dtype)
    cells = x[0].numel()
    # a CPU's cache; elsewhere few launches whose temporaries stay small beside the map
    chunk = 1 << 16 if x.device.type == 'cpu' else max(1 << 16, x.numel() // 16)
    for image in range(x.shape[0]):
        for start in range(0, cells, chunk):
            part = (image, slice(start, start + chunk))
            logit, slope = promote(_part(x, part)), _part(slopes, part)
            cost, _ = _background_slope(logit, alpha, low, high, slope)
            if dense is not None:
                t = _part(dense, part)
                positive, other = _background_slope(-logit, alpha, -high, -low)
                penalty = _power(1 - t, beta)
                cost = torch.where(t == 1, positive, cost.mul_(penalty))
                slope.copy_(torch.where(t == 1, other.neg_(), penalty.mul_(slope)))
            if factor is not None:
                cost.mul_(_part(factor, part))
                slope.mul_(_part(factor, part))
            sums[image] += cost.sum()
    if index is not None:
        for start in range(0, len(index), chunk // 4):
            few = slice(start, start + chunk // 4)
            _correct(x, slopes, sums, index[few], value[few], factor, alpha, beta, low, high)
    return sums, slopes


def _part(tensor: Tensor, part: tuple[int, slice]) -> Tensor:
    return tensor[part[0]].view(-1)[part[1]]


def _correct(
    x: Tensor,
    slopes: Tensor,
    sums: Tensor,
    index: Tensor,
    value: Tensor,
    factor: Tensor | None,
    alpha: float,
    beta: float,
    low: float,
    high: float,
) -> None:
    """Replace background by the truth at the splats, in ``slopes`` and ``sums``."""
    cells = promote(x.view(-1)[index])
    t = value.to(cells.dtype)
    cost, slope = _background_slope(cells, alpha, low, high)
    positive, other = _background_slope(-cells, alpha, -high, -low)
    excess = _power(1 - t, beta).sub_(1)
    cost = torch.where(t == 1, positive - cost, excess * cost)
    slope = torch.where(t == 1, -other - slope, excess * slope)
    if factor is not None:
        here = factor.view(-1)[index]
        cost, slope = cost * here, slope * here
    empty = t == 0  # padding points at cell 0, whose logit may be anything
    slopes.view(-1).index_add_(0, index, slope.masked_fill_(empty, 0))
    image = index // x[0].numel()
    sums.index_add_(0, image, cost.masked_fill_(empty, 0))


@MODELS.register_module()
class PenaltyReducedFocalLoss(nn.Module):
    """:func:`penalty_reduced_focal_loss` as a component, with MMDetection's five arguments.

    Drops into MMDetection's own heads, which hand over scores: say ``activated=True`` there.

    Args:
        compile: run the formula through ``torch.compile``, which compiles for the first batch and
            once more for splats of any number; worth it on a GPU.
        loss_weight: factor on the result.
    """

    accepts_splats = True

    def __init__(
        self,
        alpha: float = 2.0,
        beta: float = 4.0,
        activated: bool = False,
        clamp: float | None = None,
        normalizer: Normalizer = 'positives',
        reduction: Reduction = 'mean',
        loss_weight: float = 1.0,
        compile: bool = False,
    ) -> None:
        super().__init__()
        check_choice('reduction', reduction, REDUCTIONS)
        check_choice('normalizer', normalizer, NORMALIZERS)
        self.alpha, self.beta = alpha, beta
        self.activated, self.clamp = activated, clamp
        self.normalizer, self.reduction = normalizer, reduction
        self.loss_weight = loss_weight
        function = penalty_reduced_focal_loss
        self._function = torch.compile(function) if compile else function

    def forward(
        self,
        pred: Tensor,
        target: Tensor | Splats,
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,
        reduction_override: Reduction | None = None,
    ) -> Tensor:
        """See :func:`penalty_reduced_focal_loss`; ``reduction_override`` replaces ``reduction``."""
        loss = self._function(
            pred,
            target,
            weight,
            alpha=self.alpha,
            beta=self.beta,
            activated=self.activated,
            clamp=self.clamp,
            normalizer=self.normalizer,
            reduction=reduction_override or self.reduction,
            avg_factor=avg_factor,
        )
        return self.loss_weight * loss
