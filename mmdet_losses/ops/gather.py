"""Reading and writing dense maps at cells."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmdet_losses.ops.constant import constant


def gather_cells(feature: Tensor, index: Tensor) -> Tensor:
    """Values of a map at flat cell indices.

    Shape:
        feature: (B, D, H, W).
        index: (B, M) int64, ``y * W + x``.
        Returns (B, M, D). A cell that is read twice gets the sum of both gradients.
    """
    batch, depth = feature.shape[:2]
    flat = feature.reshape(batch, depth, -1)
    return flat.gather(2, index[:, None, :].expand(-1, depth, -1)).transpose(1, 2)


def cell_xy(index: Tensor, width: int) -> Tensor:
    """Integer x, y of flat cell indices ``y * width + x``: (...) to (..., 2)."""
    return torch.stack((index % width, index.div(width, rounding_mode='floor')), dim=-1)


def scatter_cells(values: Tensor, index: Tensor, mask: Tensor, size: Sequence[int]) -> Tensor:
    """Map with the values of slots at their cells, and zeros elsewhere.

    Shape:
        values: (B, M, D); index, mask: (B, M); size: (H, W).
        Returns (B, D, H, W). If slots share a cell, one of them is kept.
    """
    batch, _, depth = values.shape
    cells = size[0] * size[1]
    target = torch.where(mask, index, constant(cells, index))[:, None, :].expand(-1, depth, -1)
    flat = values.new_zeros(batch, depth, cells + 1)
    return flat.scatter(2, target, values.transpose(1, 2))[..., :cells].unflatten(2, size)
