"""Local maxima of heatmaps."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_losses.ops.precision import promote


class Peaks(NamedTuple):
    """The K best cells of each image, by descending score; each field is (B, K)."""

    scores: Tensor
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # replaces tuple.index
    """Flat cell index ``y * W + x``, int64."""


def find_peaks(logits: Tensor, k: int, kernel: int = 3) -> Peaks:
    """The ``k`` best local maxima of each image, over all classes.

    Shape:
        logits: (B, C, H, W).
        Returns fields of shape (B, K) with K = min(k, C * H * W).

    Example:
        >>> find_peaks(torch.tensor([[[[0.0, 2.0, 1.0, 3.0]]]]), k=2).index
        tensor([[3, 1]])
    """
    return top_peaks(suppress_non_peaks(promote(logits).sigmoid(), kernel), k)


def suppress_non_peaks(heatmap: Tensor, kernel: int = 3) -> Tensor:
    """Set every cell to 0 that is not the maximum of its window, separately for each class.

    Shape:
        heatmap: (B, C, H, W) scores.

    Convention:
        ``kernel`` is odd. Equal neighbours (a plateau) are all kept, as in the official codes.
    """
    if kernel == 1:
        return heatmap
    highest = F.max_pool2d(heatmap, kernel, stride=1, padding=kernel // 2)
    return torch.where(highest == heatmap, heatmap, heatmap.new_zeros(()))


def top_peaks(heatmap: Tensor, k: int) -> Peaks:
    """The ``k`` highest cells over all classes of each image.

    Shape:
        heatmap: (B, C, H, W) scores.
        Returns fields of shape (B, K) with K = min(k, C * H * W).
    """
    _, classes, height, width = heatmap.shape
    cells = height * width
    scores, flat = heatmap.flatten(1).topk(min(k, classes * cells))
    return Peaks(scores, flat.div(cells, rounding_mode='floor'), flat % cells)
