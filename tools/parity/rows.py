"""One line of the parity table, and how a quantity becomes one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch


class Row(NamedTuple):
    """One quantity of one golden file, compared."""

    file: str
    """Name of the golden file or folder."""
    quantity: str
    """What was compared in it."""
    max_abs: float
    """Largest absolute difference."""
    max_rel: float
    """Largest difference in the unit that the tolerance is given in (see the checker)."""
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

    A value passes within ``atol + rtol * |want|``; NaN equals NaN, infinity itself. The relative
    error is that of the largest difference over the largest golden value.
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
    """The row of a check that could not be carried out."""
    said = ' '.join(str(error).split())[:200]
    return Row(file, f'{type(error).__name__}: {said}', np.inf, np.inf, '', False)
