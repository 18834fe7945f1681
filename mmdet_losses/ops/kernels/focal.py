"""Cost of one logit in the focal losses, and its derivative."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_losses.ops.kernels.launch import ExpectedGradient

CHUNK = 1 << 17
"""Number of logits of a chunk on a CPU: its intermediate results fit into the cache."""
HIGHEST = 80.0
"""Largest logit of :class:`BackgroundFocal`'s formula: its exponential is finite."""


def power(base: Tensor, exponent: float) -> Tensor:
    """``base ** exponent``, faster for the usual exponents 2 and 4."""
    if exponent == 2:
        return base.square()
    return base.square().square() if exponent == 4 else base.pow(exponent)


def focal_cost(x: Tensor, exponent: float) -> Tensor:
    r"""Cost of a logit that should be low: :math:`-p^\gamma \log(1 - p)`, with the score p.

    A logit x that should be high has the cost of -x.
    """
    # through the logarithm: the derivative of a power below 1 is infinite at a score of 0
    scale = x.sigmoid().square() if exponent == 2 else (exponent * F.logsigmoid(x)).exp()
    return scale * F.softplus(x)


def focal_cost_and_slope(
    x: Tensor,
    exponent: float,
    bounds: tuple[float, float] | None = None,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r""":func:`focal_cost` and its derivative :math:`p^\gamma (\gamma (1 - p) \log(1 + e^x) + p)`.

    Args:
        bounds: clamp the logit to this range; outside it the derivative is exactly 0.
        out: memory for the derivative.
    """
    if bounds is not None:
        clamped = x.clamp(*bounds)
        cost, slope = focal_cost_and_slope(clamped, exponent, out=out)
        return cost, slope.mul_(clamped == x)
    score, soft = x.sigmoid(), F.softplus(x)
    slope = torch.neg(score, out=out).add_(1).mul_(soft).mul_(exponent).add_(score)
    scale = score.square_() if exponent == 2 else score.pow_(exponent)
    return soft.mul_(scale), slope.mul_(scale)


class BackgroundFocal:
    """Sum of :func:`focal_cost` over chunks of logits, and its derivative.

    On a CPU one exponential and one logarithm per logit are computed, in memory that all chunks
    use: ``F.softplus`` alone takes longer, and new memory is slow.

    Args:
        like: tensor with the dtype and device of the logits.
        size: number of logits of the largest chunk.
    """

    def __init__(self, like: Tensor, size: int, exponent: float) -> None:
        self.exponent = exponent
        self.memory = like.new_empty((3, size)) if like.device.type == 'cpu' else None

    def __call__(
        self,
        x: Tensor,
        slope: Tensor,
        factor: Tensor | float = 1.0,
        bounds: tuple[float, float] | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """The sum over a chunk ``x``; ``slope`` gets the derivative times ``factor``.

        Shape:
            x, slope: the same, contiguous. weight: broadcasts to it; a factor on both results.

        Args:
            bounds: clamp the logits to this range; outside it the derivative is exactly 0.
        """
        low, high = -math.inf, math.inf  # a NaN takes the slow path
        if self.memory is not None:
            high = float(x.amax())
            low = low if bounds is None else float(x.amin())
        if bounds is not None and not (bounds[0] <= low and high <= bounds[1]):
            clamped = x.clamp(*bounds)
            total = self(clamped, slope, factor, None, weight)
            slope.mul_(clamped == x)
            return total
        if not high <= HIGHEST:
            cost, _ = focal_cost_and_slope(x, self.exponent, out=slope)
            slope.mul_(factor if weight is None else weight * factor)
            return cost.sum() if weight is None else cost.mul_(weight).sum()
        return self._fast(x, slope, factor, weight)

    def _fast(
        self, x: Tensor, slope: Tensor, factor: Tensor | float, weight: Tensor | None
    ) -> Tensor:
        """With e = exp(x): the score is e / (1 + e), the other logarithm log(1 + e)."""
        assert self.memory is not None
        score, soft, rest = (each[: x.numel()] for each in self.memory)
        scale = slope.view(-1)
        torch.exp(x.view(-1), out=score)
        torch.log1p(score, out=soft)
        torch.add(score, 1, out=rest).reciprocal_()  # 1 - score
        score.mul_(rest)
        if self.exponent == 2:
            torch.mul(score, score, out=scale)
        else:
            torch.pow(score, self.exponent, out=scale)
        if weight is not None:
            slope.mul_(weight)
        total = torch.dot(scale, soft)
        score.add_(rest.mul_(soft), alpha=self.exponent)
        scale.mul_(score.mul_(factor))
        return total


class FoldedGradient:
    """The factor that the forward pass multiplies the slopes by, and the rest of it.

    The losses are usually multiplied by ``loss_weight`` only, see
    :class:`~mmdet_losses.ops.kernels.launch.ExpectedGradient`. Then the backward pass on a CPU
    does not read and write the slopes once more.
    """

    def __init__(self) -> None:
        self.expected: Tensor | float = ExpectedGradient.current or 1.0

    def rest(self, grad: Tensor) -> Tensor | None:
        """What the slopes are still multiplied by; None for 1."""
        readable = grad.device.type == 'cpu' and type(grad) is Tensor
        same = readable and bool((grad == self.expected).all())
        return None if same else grad / self.expected
