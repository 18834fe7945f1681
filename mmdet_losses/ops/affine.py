"""Affine maps between images and network inputs of the centre family."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Points = TypeVar('Points', np.ndarray, Tensor)


def center_affine(
    center: tuple[float, float], scale: float, output_size: tuple[int, int]
) -> np.ndarray:
    """Affine map of ``center`` to the middle of the output and ``scale`` pixels to its width.

    Convention:
        The map is isotropic and depends only on the width of the output, as in the official codes
        of CenterNet (objects as points) and CenterTrack. On an output that is taller than wide the
        image shrinks although it would fit.

    Args:
        center: x, y in image pixels.
        scale: number of image pixels over the width of the output.
        output_size: (h, w).

    Returns:
        (2, 3) float64: image pixels to output pixels.
    """
    factor = output_size[1] / scale
    shift = output_size[1] / 2 - factor * center[0], output_size[0] / 2 - factor * center[1]
    return np.array([[factor, 0, shift[0]], [0, factor, shift[1]]])


def mirror_affine(width: int) -> np.ndarray:
    """Map that mirrors an image left to right: x to ``width - 1 - x``, (2, 3) float64."""
    return np.array([[-1, 0, width - 1], [0, 1, 0]], dtype=np.float64)


def compose_affine(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The (2, 3) map that applies ``first``, then ``second``."""
    return second @ np.concatenate((first, [[0, 0, 1]]))


def apply_affine(points: Points, matrix: np.ndarray) -> Points:
    """Points under an affine map, computed in float64.

    Shape:
        points: (..., 2n) of x, y pairs, array or tensor. Returns the same type, shape and dtype.
        matrix: (2, 3).
    """
    wide = torch.as_tensor(points).double()
    x, y = wide[..., 0::2], wide[..., 1::2]
    (xx, xy, x0), (yx, yy, y0) = np.asarray(matrix, dtype=np.float64).tolist()
    mapped = torch.stack((xx * x + xy * y + x0, yx * x + yy * y + y0), -1).flatten(-2)
    if isinstance(points, Tensor):
        return mapped.to(points.dtype)
    return mapped.numpy().astype(points.dtype)
