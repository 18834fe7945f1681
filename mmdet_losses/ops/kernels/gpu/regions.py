"""Cells of a map inside ignored regions, on a GPU: one launch for a batch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmdet_losses.ops.kernels.gpu.usable import clip
from mmdet_losses.ops.kernels.launch import bytes_of, launch

BLOCK = 256


@triton.jit
def _between(cell, edges, scale, limit):
    """Whether cells are between the edges of a region along one axis."""
    low = tl.floor(clip(tl.load(edges) * scale, limit))
    high = tl.floor(clip(tl.load(edges + 2) * scale, limit))
    return (cell >= low) & (cell <= high)


@triton.jit
def region_kernel(
    boxes,
    labels,
    mask,
    out_cells,
    regions,
    classes,
    height,
    width,
    scale_x,
    scale_y,
    limit_x,
    limit_y,
    KIND: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A block of cells of one map; grid (B * C, blocks). KIND: 'class' or 'all' labels."""
    plane = tl.program_id(0)
    cell = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x, y = (cell % width).to(tl.float32), (cell // width).to(tl.float32)
    hidden = cell < 0
    first = plane // classes * regions
    for region in range(first, first + regions):
        counts = tl.load(mask + region) != 0
        if KIND == 'class':
            label = tl.load(labels + region)
            own = tl.where(label < -1, -2 - label, label)
            counts = counts & ((own == plane % classes) | (label == -1))
        edges = boxes + 4 * region
        covered = _between(x, edges, scale_x, limit_x) & _between(y, edges + 1, scale_y, limit_y)
        hidden = hidden | (covered & counts)
    tl.store(out_cells + plane * height * width + cell, hidden, mask=cell < height * width)


def region_cells(
    boxes: Tensor,
    labels: Tensor,
    mask: Tensor,
    feat_size: tuple[int, int],
    scale: tuple[float, float],
    num_classes: int | None,
) -> Tensor:
    """See :func:`mmdet_losses.ops.kernels.regions.region_cells`."""
    given = boxes.contiguous(), labels.contiguous(), mask.contiguous()
    (height, width), classes = feat_size, num_classes or 1
    cells = mask.new_empty((len(boxes), classes, height, width), dtype=torch.bool)
    launch(
        *(region_kernel, (len(boxes) * classes, triton.cdiv(height * width, BLOCK))),
        *(*given, cells, mask.shape[1], classes, height, width),
        *(*map(float, scale), float(width - 1), float(height - 1)),
        KIND='all' if num_classes is None else 'class',
        BLOCK=BLOCK,
        moved=bytes_of(*given, cells),
    )
    return cells
