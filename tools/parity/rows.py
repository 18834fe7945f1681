"""One row of the parity table, and comparisons that return it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch


class Row(NamedTuple):
    """The comparison of one quantity of a golden file."""

    file: str
    """Name of the golden file or folder."""
    quantity: str
    """The quantity of the file."""
    max_abs: float
    """Largest absolute difference."""
    max_rel: float
    """Largest difference in the unit of the tolerance (see the check)."""
    tolerance: float | str
    ok: bool


def compare(
    file: str,
    quantity: str,
    got: torch.Tensor | np.ndarray | float,
    want: np.ndarray | float,
    atol: float = 0.0,
    rtol: float = 0.0,
) -> Row:
    """Compare one array; with neither tolerance it must be exact.

    A value passes within ``atol + rtol * |want|``; NaN equals NaN and infinity equals infinity.
    The relative error is the largest difference divided by the largest golden value.
    """
    if isinstance(got, torch.Tensor):
        got = got.detach().cpu().numpy()
    have, gold = np.asarray(got, dtype=np.float64), np.asarray(want, dtype=np.float64)
    tolerance = ' + '.join(
        f'{name} {value:g}' for name, value in (('atol', atol), ('rtol', rtol)) if value
    )
    if have.shape != gold.shape:
        shapes = f'{quantity}: shape {have.shape} instead of {gold.shape}'
        return Row(file, shapes, np.inf, np.inf, tolerance or 'exact', False)
    ok = bool(np.isclose(have, gold, atol=atol, rtol=rtol, equal_nan=True).all())
    finite = np.isfinite(have) & np.isfinite(gold)
    worst = float(np.abs(have - gold)[finite].max(initial=0.0))
    largest = float(np.abs(gold)[finite].max(initial=0.0))
    relative = worst / largest if largest else worst
    return Row(file, quantity, worst, relative, tolerance or 'exact', ok)


def failure(file: str, error: Exception) -> Row:
    """The row of a check that raised an error."""
    message = ' '.join(str(error).split())[:200]
    return Row(file, f'{type(error).__name__}: {message}', np.inf, np.inf, '', False)
