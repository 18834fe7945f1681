"""Local maxima of heatmaps and their ranking."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Peaks(NamedTuple):
    """The K best cells of each image, best first; each field is (B, K)."""

    scores: Tensor
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    """Flat cell index ``y * W + x``, int64."""


def suppress_non_peaks(heatmap: Tensor, kernel: int = 3) -> Tensor:
    """Zero every cell that is not the maximum of its window, class by class.

    Shape:
        heatmap: (B, C, H, W) scores.

    Convention:
        ``kernel`` is odd. Equal neighbours (a plateau) all survive, as in the official codes.
    """
    highest = F.max_pool2d(heatmap, kernel, stride=1, padding=kernel // 2)
    return torch.where(highest == heatmap, heatmap, heatmap.new_zeros(()))


def top_peaks(heatmap: Tensor, k: int) -> Peaks:
    """The ``k`` highest cells over all classes of each image.

    Shape:
        heatmap: (B, C, H, W) scores, usually after :func:`suppress_non_peaks`.
        Returns fields of shape (B, K) with K = min(k, C * H * W), by descending score.
    """
    _, classes, height, width = heatmap.shape
    k = min(k, classes * height * width)
    scores, flat = heatmap.flatten(1).topk(k)
    cells = height * width
    return Peaks(scores, flat.div(cells, rounding_mode='floor'), flat % cells)
