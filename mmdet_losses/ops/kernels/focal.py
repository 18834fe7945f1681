"""Cost of one logit in the focal losses, and its derivative."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


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
