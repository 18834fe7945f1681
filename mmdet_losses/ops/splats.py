"""Heatmap targets as sparse splats."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Splats(NamedTuple):
    """A heatmap that is mostly zero, as pairs of position and value.

    Positions are flat indices into ``shape``. A position has at most one value above 0, the
    maximum of the Gaussians that cover it. Padding entries have index 0 and value 0, which changes
    no sum. A map with many values is kept dense instead.
    """

    index: Tensor  # type: ignore[assignment]  # replaces tuple.index
    """(N,) int64; None for a dense map."""
    value: Tensor
    """(N,) float32 in [0, 1]; the whole map, of shape ``shape``, if dense."""
    shape: tuple[int, ...]
    """(B, C, H, W) of the map."""

    @property
    def is_dense(self) -> bool:
        """Whether ``value`` is the dense map."""
        return self.index is None

    def dense(self) -> Tensor:
        """The map, float32 of shape ``shape``."""
        if self.is_dense:
            return self.value
        flat = self.value.new_zeros(math.prod(self.shape))
        return flat.scatter_reduce(0, self.index, self.value, 'amax').view(self.shape)

    def covered(self) -> Tensor:
        """Cells with a value above 0, bool of shape ``shape``."""
        if self.is_dense:
            return self.value > 0
        cells = math.prod(self.shape)
        index = torch.where(self.value > 0, self.index, cells)
        covered = torch.zeros(cells + 1, dtype=torch.bool, device=index.device)
        return covered.scatter_(0, index, True)[:cells].view(self.shape)


def unwrap_dense(target: Tensor | Splats) -> Tensor | Splats:
    """Dense splats as a tensor; any other target unchanged."""
    return target.value if isinstance(target, Splats) and target.is_dense else target


def check_heatmaps(pred: Tensor, target: Tensor | Splats) -> None:
    """Raise ``ValueError`` unless a heatmap and its target have one shape."""
    if tuple(pred.shape) != tuple(target.shape):
        raise ValueError(
            f'The heatmap has shape {tuple(pred.shape)} but its target {tuple(target.shape)}; '
            'give head and encoder the same num_classes and stride.'
        )
