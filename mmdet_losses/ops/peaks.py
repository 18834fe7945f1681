"""Local maxima of heatmaps."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_losses.ops.kernels.launch import gpu_kernels, use_triton
from mmdet_losses.ops.precision import promote

CELLS_PER_PEAK = 16
"""Number of the highest cells per wanted peak among which a CPU looks for the peaks."""


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
    if use_triton(logits):
        return top_peaks(gpu_kernels('peaks').peak_scores(logits, kernel, sigmoid=True), k)
    if logits.device.type == 'cpu' and not _is_captured():
        images = [_sparse_peaks(image, k, kernel) for image in logits]
        if all(images) and images:
            return Peaks(*map(torch.stack, zip(*images, strict=True)))
    return top_peaks(suppress_non_peaks(promote(logits).sigmoid(), kernel), k)


def _is_captured() -> bool:
    """Whether the operations become a graph, in which no shape may depend on a value."""
    return torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export()


def suppress_non_peaks(heatmap: Tensor, kernel: int = 3) -> Tensor:
    """Set every cell to 0 that is not the maximum of its window, separately for each class.

    Shape:
        heatmap: (B, C, H, W) scores.

    Convention:
        ``kernel`` is odd. Equal neighbours (a plateau) are all kept, as in the official codes.
    """
    if kernel == 1:
        return heatmap
    if use_triton(heatmap):
        return gpu_kernels('peaks').peak_scores(heatmap, kernel)
    highest = F.max_pool2d(heatmap, kernel, stride=1, padding=kernel // 2)
    return torch.where(highest == heatmap, heatmap, heatmap.new_zeros(()))


def _sparse_peaks(logits: Tensor, k: int, kernel: int) -> Peaks | None:
    """:func:`find_peaks` of one image, looking at its highest cells alone.

    Shape:
        logits: (C, H, W). Returns fields of shape (k,), or None if fewer than ``k`` of these cells
        are peaks.
    """
    _, height, width = logits.shape
    rows = logits.amax(2).flatten()
    wanted = CELLS_PER_PEAK * k
    if not 0 < wanted <= len(rows):
        return None
    # At least ``wanted`` cells reach the lowest of these row maxima; on a plateau all of them do.
    label, y, x = (logits >= rows.topk(wanted).values[-1]).nonzero(as_tuple=True)
    if len(label) > logits.numel() / 4:
        return None
    own = promote(logits[label, y, x])
    scores = own.sigmoid()
    peak = torch.ones_like(scores, dtype=torch.bool)
    reach = range(-(kernel // 2), kernel // 2 + 1)
    for dy, dx in itertools.product(reach, reach):  # the border repeats cells of the window
        near = promote(logits[label, (y + dy).clamp(0, height - 1), (x + dx).clamp(0, width - 1)])
        peak &= (near <= own) | (near.sigmoid() <= scores)  # scores near 1 are equal
    if int(peak.sum()) < k:
        return None
    scores, order = scores[peak].topk(k)
    return Peaks(scores, label[peak][order], (y * width + x)[peak][order])


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
