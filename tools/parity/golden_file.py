"""One golden file, with the arrays that were read and the rows of the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tools.parity.rows import Row, compare


class GoldenFile:
    """Arrays of a file, and their rows of the table.

    Every array must be read; :meth:`finish` returns a failed row for each array that was not.
    """

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            self.arrays = dict(arrays)
        self.name = path.name
        self.rows: list[Row] = []
        self.read: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def array(self, key: str) -> np.ndarray:
        """One array, by its name."""
        self.read.add(key)
        return self.arrays[key]

    def tensor(self, key: str, grad: bool = False) -> Tensor:
        """A copy as a tensor, a leaf with ``requires_grad`` if asked."""
        return torch.tensor(self.array(key)).requires_grad_(grad)

    def number(self, key: str) -> int:
        """A scalar integer."""
        return int(self.array(key))

    def compare(
        self, key: str, got: Tensor | np.ndarray | float, atol: float = 0.0, rtol: float = 0.0
    ) -> None:
        """Compare with the array ``key``; exactly, unless a tolerance is given."""
        self.rows.append(compare(self.name, key, got, self.array(key), atol, rtol))

    def finish(self) -> list[Row]:
        """All rows, with a failed one for each array that was not read."""
        missed = (key for key in self.arrays if key not in self.read)
        unread = [
            Row(self.name, f'{key}: not checked', np.inf, np.inf, '', False) for key in missed
        ]
        return self.rows + unread
