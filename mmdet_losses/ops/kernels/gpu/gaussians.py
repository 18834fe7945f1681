"""Gaussian splats and radii on a GPU: one launch for all windows of a batch, without a sort."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmdet_losses.ops.kernels.launch import bytes_of, launch

BLOCK = 256


@triton.jit
def _gaussian(xy, radius, sigma, channel, mask, slot, x, y, max_radius):
    """Value of the object's Gaussian at the cells (x, y), 0 outside its window; its channel."""
    dx = x - tl.load(xy + 2 * slot).to(tl.int32)
    dy = y - tl.load(xy + 2 * slot + 1).to(tl.int32)
    reach = tl.minimum(tl.load(radius + slot).to(tl.int32), max_radius)
    width = tl.load(sigma + slot).to(tl.float32)
    near = (tl.abs(dx) <= reach) & (tl.abs(dy) <= reach) & (tl.load(mask + slot) != 0)
    value = tl.exp(-(dx * dx + dy * dy).to(tl.float32) / (2.0 * width * width))
    return tl.where(near, value, 0.0), tl.load(channel + slot).to(tl.int32)


@triton.jit
def window_kernel(
    xy,
    radius,
    sigma,
    channel,
    mask,
    out_index,
    out_value,
    slots,
    classes,
    height,
    width,
    max_radius,
    BLOCK: tl.constexpr,
):
    """Cells of one object's window; grid (B * M, blocks).

    A cell that several windows of one map cover belongs to the object with the highest value, the
    first one of equals. For the other objects it is padding.
    """
    slot = tl.program_id(0)
    image = slot // slots
    side = 2 * max_radius + 1
    entry = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(xy + 2 * slot).to(tl.int32) + entry % side - max_radius
    y = tl.load(xy + 2 * slot + 1).to(tl.int32) + entry // side - max_radius
    value, own = _gaussian(xy, radius, sigma, channel, mask, slot, x, y, max_radius)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    value = tl.where(inside, value, 0.0)
    for other in range(image * slots, (image + 1) * slots):
        rival, plane = _gaussian(xy, radius, sigma, channel, mask, other, x, y, max_radius)
        better = (rival > value) | ((rival == value) & (other < slot))
        value = tl.where(better & (plane == own), 0.0, value)
    place = ((image * classes + own) * height + y) * width + x
    place = tl.where(value > 0, place, 0)
    out = slot * side * side + entry
    tl.store(out_index + out, place.to(tl.int64), mask=entry < side * side)
    tl.store(out_value + out, value, mask=entry < side * side)


@triton.jit
def dense_kernel(
    xy,
    radius,
    sigma,
    channel,
    mask,
    out_map,
    slots,
    classes,
    height,
    width,
    max_radius,
    KIND: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Maximum of all Gaussians in a block of cells of one map; grid (B * C, blocks).

    KIND: 'value', or 'outside': whether no window covers the cell.
    """
    plane = tl.program_id(0)
    image = plane // classes
    cell = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x, y = cell % width, cell // width
    value = tl.zeros([BLOCK], tl.float32)
    for slot in range(image * slots, (image + 1) * slots):
        if tl.load(channel + slot).to(tl.int32) == plane % classes:
            here, _ = _gaussian(xy, radius, sigma, channel, mask, slot, x, y, max_radius)
            value = tl.maximum(value, here)
    inside = cell < height * width
    out = out_map + plane * height * width + cell
    if KIND == 'outside':
        tl.store(out, value == 0, mask=inside)
    else:
        tl.store(out, value, mask=inside)


@triton.jit
def radius_kernel(
    size,
    scale,
    table,
    out_radius,
    out_sigma,
    count,
    ROUND_UP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Radius and standard deviation of one object per lane, in float64; grid (blocks,).

    The formula is that of :func:`mmdet_losses.ops.gaussian.radius_of_sides`; ``table`` (7, 3) has
    the coefficients of its three equations.
    """
    slot = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = slot < count
    width = tl.load(size + 2 * slot, mask=inside, other=1.0).to(tl.float64) * tl.load(scale)
    height = tl.load(size + 2 * slot + 1, mask=inside, other=1.0).to(tl.float64)
    height = height * tl.load(scale + 1)
    if ROUND_UP:
        width, height = tl.ceil(width), tl.ceil(height)
    total, area = width + height, width * height
    smallest = total
    for case in tl.static_range(3):
        row = table + case
        root = tl.load(row) * (total * total)
        root += tl.load(row + 3) * area * tl.load(row + 18) / tl.load(row + 6)
        root = tl.sqrt(tl.maximum(root, 0.0))
        radius = (tl.load(row + 9) * total + tl.load(row + 12) * root) / tl.load(row + 15)
        smallest = radius if case == 0 else tl.minimum(smallest, radius)
    radius = tl.floor(tl.maximum(smallest, 0.0))
    tl.store(out_radius + slot, radius, mask=inside)
    tl.store(out_sigma + slot, (radius + 0.5) / 3.0, mask=inside)


def window_radii(
    size: Tensor, scale: Tensor, table: Tensor, round_up: bool
) -> tuple[Tensor, Tensor]:
    """Radius and standard deviation (...) of sizes (..., 2); see ``ops.gaussian.window_radii``."""
    size = size.contiguous()
    radius = size.new_empty(size.shape[:-1], dtype=torch.float64)
    sigma = torch.empty_like(radius)
    launch(
        *(radius_kernel, (triton.cdiv(radius.numel(), BLOCK),)),
        *(size, scale, table, radius, sigma, radius.numel()),
        ROUND_UP=round_up,
        BLOCK=BLOCK,
        enable_fp_fusion=False,  # the bits of the eager formula
        moved=bytes_of(size, scale, table, radius, sigma),
    )
    return radius, sigma


def list_windows(
    xy: Tensor,
    radius: Tensor,
    sigma: Tensor,
    channel: Tensor,
    mask: Tensor,
    size: tuple[int, int, int],
    max_radius: int,
) -> tuple[Tensor, Tensor]:
    """Index and value (B * M * K * K,), K = 2 * max_radius + 1; see ``splat_gaussians``."""
    objects = [each.contiguous() for each in (xy, radius, sigma, channel, mask)]
    cells = (2 * max_radius + 1) ** 2
    slots = mask.numel()
    index = xy.new_empty(slots * cells, dtype=torch.int64)
    value = xy.new_empty(slots * cells, dtype=torch.float32)
    launch(
        *(window_kernel, (slots, triton.cdiv(cells, BLOCK)), *objects, index, value),
        *(mask.shape[1], *size, max_radius),
        BLOCK=BLOCK,
        moved=bytes_of(*objects, index, value),
    )
    return index, value


def draw_windows(
    xy: Tensor,
    radius: Tensor,
    sigma: Tensor,
    channel: Tensor,
    mask: Tensor,
    size: tuple[int, int, int],
    max_radius: int,
    outside: bool = False,
) -> Tensor:
    """The same Gaussians as maps (B, C, H, W); ``outside``: the cells that none covers, bool."""
    objects = [each.contiguous() for each in (xy, radius, sigma, channel, mask)]
    images, slots = mask.shape
    drawn = xy.new_empty((images, *size), dtype=torch.bool if outside else torch.float32)
    launch(
        *(dense_kernel, (images * size[0], triton.cdiv(size[1] * size[2], BLOCK))),
        *(*objects, drawn, slots, *size, max_radius),
        KIND='outside' if outside else 'value',
        BLOCK=BLOCK,
        moved=bytes_of(*objects, drawn),
    )
    return drawn
