"""Random numbers that several official programs draw in the same way."""
# ruff: noqa: NPY002 (MMEngine seeds the global generator of every worker)

from __future__ import annotations

import numpy as np


def coin(probability: float = 0.5) -> bool:
    """True with a probability."""
    return np.random.random() < probability


def whole_number(low: int, high: int) -> int:
    """A whole number, uniform from ``low`` to ``high``, both included."""
    return int(np.random.randint(low, high + 1))


def inside(side: int, border: int) -> int:
    """A pixel of a side that keeps ``border`` pixels from both ends, halved until it fits.

    The rule of CornerNet and CenterNet for the centre of a random crop.
    """
    while side <= 2 * border:
        border //= 2
    return whole_number(border, side - border - 1)


def scale_or_inverse(limit: float) -> float:
    """t or 1 / t with equal probability, t uniform from 1 to ``limit``.

    darknet's rule for saturation, exposure and AlexeyAB's input sizes.
    """
    scale = np.random.uniform(1, limit)
    return scale if coin() else 1 / scale
