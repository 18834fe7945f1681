"""One row of the parity table, and the comparisons that make it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

Array = torch.Tensor | np.ndarray | float
TINY = 1e-9
"""Unit of a tolerance where all golden values are zero."""


class Row(NamedTuple):
    """The comparison of one array of a golden file, or the reason why there is none."""

    file: str
    """Name of the golden file or folder."""
    quantity: str
    """The array of the file."""
    max_abs: float
    """Largest absolute difference."""
    max_rel: float
    """Largest difference, divided by the largest golden value (networks: standard deviation)."""
    tolerance: float | str
    ok: bool
    used: float = float('nan')
    """Largest difference divided by the difference that the tolerance allows."""
    reason: str = ''
    """Why the array is not compared; empty for a comparison."""

    def arrays(self) -> list[str]:
        """Names in the file of the arrays of ``quantity``: ``case a, b[0]`` or ``a, b[0]``."""
        case, _, names = self.quantity.replace(', ', ',').rpartition(' ')
        mark = f'{case}__' if case else ''
        return [mark + name.split('[')[0] for name in names.split(',')]


def numbers(value: Array) -> np.ndarray:
    """A tensor, an array or a number as a float64 array."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    return np.asarray(value, dtype=np.float64)


def compare(
    file: str,
    quantity: str,
    got: Array,
    want: Array,
    tol: float = 0.0,
    each: float = 0.0,
    atol: float | np.ndarray = 0.0,
) -> Row:
    """Compare one array; without a tolerance it must be equal.

    A value passes within ``tol * largest + each * |want| + atol``, where ``largest`` is the
    largest absolute golden value; ``atol`` is one number or one per column. NaN equals NaN and
    infinity equals infinity. An empty array fails: it compares nothing.
    """
    have, gold = numbers(got), numbers(want)
    words = [f'{tol:g} of max'] * (tol > 0) + [f'{each:g} of each'] * (each > 0)
    words += [f'{value:g}' for value in np.unique(np.atleast_1d(atol)) if value]
    tolerance = ' + '.join(words) or 'exact'
    if have.shape != gold.shape:
        return failed(file, f'{quantity}: shape {have.shape} instead of {gold.shape}', tolerance)
    if not gold.size:
        return failed(file, f'{quantity}: empty', tolerance)
    finite = np.isfinite(gold)
    largest = float(np.abs(gold[finite]).max(initial=0.0))
    error = _difference(have, gold)
    allowed = tol * max(largest, TINY) + each * np.where(finite, np.abs(gold), 0.0) + atol
    with np.errstate(divide='ignore', invalid='ignore'):
        used = float(np.where(error > 0, error / np.asarray(allowed), 0.0).max(initial=0.0))
    worst = float(error.max())
    return Row(file, quantity, worst, worst / (largest or 1.0), tolerance, used <= 1, used)


def compare_rows(
    file: str,
    quantity: str,
    got: Array,
    want: Array,
    allowed: Sequence[float],
    ties: bool = False,
) -> Row:
    """Compare rows as sets: each golden row has a row of ours of its own.

    Args:
        got, want: (N, D).
        allowed: largest difference of each of the D columns.
        ties: ``got`` may have more rows (those that tie with the last one).
    """
    have, gold = numbers(got), numbers(want)
    limits = np.asarray(allowed, dtype=np.float64)
    text = ', '.join(f'{value:.1e}' for value in dict.fromkeys(limits.tolist()))
    if len(have) != len(gold) and not (ties and len(have) > len(gold)):
        return failed(file, f'{quantity}: {len(have)} rows instead of {len(gold)}', text)
    if not gold.size:
        return failed(file, f'{quantity}: empty', text)
    free, worst, used = np.ones(len(have), bool), 0.0, 0.0
    for row in gold:
        with np.errstate(invalid='ignore', divide='ignore'):
            error = _difference(have, row)
            scaled = np.where(error > 0, error / limits, 0.0).max(1)
        scaled[~free] = np.inf
        best = int(scaled.argmin())
        free[best] = False
        worst, used = max(worst, float(error[best].max())), max(used, float(scaled[best]))
    largest = float(np.abs(gold[np.isfinite(gold)]).max(initial=0.0))
    return Row(file, quantity, worst, worst / (largest or 1.0), text, used <= 1, used)


def _difference(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Absolute differences; NaN equals NaN and infinity equals infinity, else they are infinite."""
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    with np.errstate(invalid='ignore'):
        error = np.abs(got - want)
    return np.where(same, 0.0, np.where(np.isfinite(error), error, np.inf))


def failed(file: str, quantity: str, tolerance: str = '') -> Row:
    """The row of a quantity that has no difference."""
    return Row(file, quantity, np.inf, np.inf, tolerance, False, np.inf)


def failure(file: str, error: Exception, where: str = '') -> Row:
    """The row of a check that raised an error."""
    message = ' '.join(str(error).split())[:200]
    return failed(file, f'{where} {type(error).__name__}: {message}'.strip())
