"""Gaussian radii, and the Gaussians of objects in heatmaps."""

from __future__ import annotations

import math
from functools import cache
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from mmdet_losses.ops.boxes import scale_boxes
from mmdet_losses.ops.choices import check_choice
from mmdet_losses.ops.constant import constant
from mmdet_losses.ops.kernels.launch import gpu_kernels, use_triton
from mmdet_losses.ops.splats import Splats

RadiusMode = Literal['fixed', 'legacy']
RADIUS_MODES: tuple[str, ...] = get_args(RadiusMode)

_ONE = 0x3F800000  # bits of float32 1.0; values in [0, 1] and their bits have the same order


def gaussian_radius(
    height: Tensor, width: Tensor, min_overlap: float = 0.7, mode: RadiusMode = 'legacy'
) -> Tensor:
    r"""Distance that a corner (or centre) may move while the box keeps an IoU of ``min_overlap``.

    Three cases (both corners move inwards; one inwards and one outwards; both outwards) are
    quadratic equations; the radius is the smallest root.

    Args:
        height, width: box sizes in cells, any shape.
        mode: 'fixed' divides by :math:`2a` and takes the inner root, as the corrected CornerNet
            and MMDetection do. 'legacy' is the formula before the correction,
            :math:`(b + \sqrt{b^2 - 4ac}) / 2` in every case; the weights of both CenterNets and of
            CenterTrack were trained with it.

    Returns:
        Radii in cells, float64 (their integer part is used), at least 0.

    Raises:
        ValueError: an unknown ``mode``.
    """
    check_choice('mode', mode, RADIUS_MODES)
    return radius_of_sides(torch.stack((width, height), -1).double(), min_overlap, mode)


def radius_of_sides(sides: Tensor, min_overlap: float, mode: RadiusMode) -> Tensor:
    """:func:`gaussian_radius` (...) of float64 sides (..., 2).

    The three equations are computed together, each operation in the order of the official codes.
    """
    total, area = sides.sum(-1)[..., None], sides.prod(-1)[..., None]
    coefficients = _radius_coefficients(min_overlap, mode, sides)
    of_square, of_area, divisor, of_total, of_root, last, rest = coefficients.unbind()
    root = of_square * total.square() + of_area * area * rest / divisor
    root = root.clamp(min=0).sqrt()
    return ((of_total * total + of_root * root) / last).amin(-1).clamp(min=0)


def _radius_coefficients(o: float, mode: RadiusMode, like: Tensor) -> Tensor:
    """Coefficients (7, 3) of the three equations."""
    fixed = mode == 'fixed'
    rows = (
        (1.0, 4.0, 4 * o**2),
        (-4.0, -16.0, 16 * o),
        (1 + o, 1.0, 1.0),
        (1.0, 2.0, -2 * o),
        (-1.0, -1.0, 1.0) if fixed else (1.0, 1.0, 1.0),
        (2.0, 8.0, 8 * o) if fixed else (2.0, 2.0, 2.0),
        (1 - o,) * 3,
    )
    return constant(rows, like)


def window_radii(
    size: Tensor,
    min_overlap: float,
    mode: RadiusMode,
    round_up: bool = True,
    scale: tuple[float, float] = (1.0, 1.0),
) -> tuple[Tensor, Tensor]:
    """Half widths of the Gaussians' windows, and standard deviations of (2 * radius + 1) / 6.

    One launch on a GPU.

    Args:
        size: (..., 2) widths and heights, float32.
        round_up: round the sizes in cells up first.
        scale: cells per unit of ``size`` along x and y.

    Returns:
        Integers (...) and standard deviations (...), both float64.
    """
    if use_triton(size):
        kind = size.new_empty(0, dtype=torch.float64)
        table = _radius_coefficients(min_overlap, mode, kind)
        launch = gpu_kernels('gaussians').window_radii
        return launch(size, constant(scale, kind), table, round_up)
    sides = size.double()
    if scale != (1.0, 1.0):
        sides = scale_boxes(sides, *scale)
    sides = sides.ceil() if round_up else sides
    radius = radius_of_sides(sides, min_overlap, mode).floor()
    return radius, (radius + 0.5) / 3


def largest_radius(
    height: int, width: int, min_overlap: float = 0.7, mode: RadiusMode = 'legacy'
) -> int:
    """The integer radius of a box that fills a map of ``height`` x ``width`` cells."""
    return _largest_radius(height, width, min_overlap, mode)


@cache
def _largest_radius(height: int, width: int, min_overlap: float, mode: RadiusMode) -> int:
    size = torch.tensor([height, width], dtype=torch.float64, device='cpu')
    return int(gaussian_radius(size[0], size[1], min_overlap, mode))


# as torch.compiler.assume_constant_result, which imports the compiler: a third of our import time
largest_radius._dynamo_marked_constant = True  # type: ignore[attr-defined]


class _Windows(NamedTuple):
    """Arguments of :func:`splat_gaussians`."""

    xy: Tensor
    radius: Tensor
    sigma: Tensor
    channel: Tensor
    mask: Tensor


def splat_gaussians(
    xy: Tensor,
    radius: Tensor,
    sigma: Tensor,
    channel: Tensor,
    mask: Tensor,
    size: tuple[int, int, int],
    max_radius: int,
) -> Splats:
    r"""Maximum of the Gaussians :math:`\exp(-d^2 / 2\sigma^2)` in square windows around objects.

    Shape:
        xy: (B, M, 2) integer cells x, y; windows are cut at the border of the map.
        radius, sigma: (B, M) half width of the window in cells, standard deviation.
        channel: (B, M) int64, 0 ... C-1.
        mask: (B, M) bool, slots with an object.
        size: (C, H, W) of the maps of one image.
        max_radius: upper limit of the radii.

    Convention:
        The centre is exactly 1 and, with sigma = (2 * radius + 1) / 6, no other cell is. On the
        CPU only the cells inside the windows are listed. On a GPU, and in torch.compile, that
        length would need a synchronisation, so every window is padded to ``max_radius``. If this
        would list more than an eighth of the map (many objects, few channels), the map is dense.
    """
    shape = (xy.shape[0], *size)
    fused = gpu_kernels('gaussians') if use_triton(xy) else None
    radius = radius if fused else radius.clamp(max=max_radius)  # the kernels limit it themselves
    windows = _Windows(xy, radius, sigma, channel, mask)
    concrete = xy.device.type == 'cpu' and type(xy) is Tensor
    if concrete and not fused and not torch.compiler.is_compiling():
        return Splats(*_list_windows(windows, size), shape)
    if max_radius == 0:
        return Splats(None, _mark_cells(windows, size), shape)  # type: ignore[arg-type]
    if 8 * math.prod(mask.shape) * (2 * max_radius + 1) ** 2 > math.prod(shape):
        dense = (
            fused.draw_windows(*windows, size, max_radius)
            if fused
            else _draw_windows(windows, size)
        )
        return Splats(None, dense, shape)  # type: ignore[arg-type]
    if fused:
        index, value = fused.list_windows(*windows, size, max_radius)
        return Splats(index, value, shape)
    return Splats(*_pad_windows(windows, size, max_radius), shape)


def outside_windows(
    xy: Tensor,
    radius: Tensor,
    sigma: Tensor,
    channel: Tensor,
    mask: Tensor,
    size: tuple[int, int, int],
    max_radius: int,
) -> Tensor:
    """Cells (B, C, H, W) that no window of :func:`splat_gaussians` covers, bool."""
    windows = _Windows(xy, radius, sigma, channel, mask)
    if use_triton(xy):
        return gpu_kernels('gaussians').draw_windows(*windows, size, max_radius, outside=True)
    return ~splat_gaussians(*windows, size, max_radius).covered()


def draw_gaussians(
    xy: Tensor, radius: Tensor, sigma: Tensor, mask: Tensor, size: tuple[int, int]
) -> Tensor:
    """The same Gaussians as one dense map per image, which some networks take as an input.

    Shape:
        xy: (B, M, 2); radius, sigma, mask: (B, M), see :func:`splat_gaussians`.
        size: (H, W). Returns (B, H, W) float32.
    """
    if use_triton(xy):
        channel = torch.zeros_like(mask, dtype=torch.int32)
        draw = gpu_kernels('gaussians').draw_windows
        return draw(xy, radius, sigma, channel, mask, (1, *size), max(size))[:, 0]
    rows, columns = _profiles(xy, radius, sigma, mask, size)
    canvas = rows.new_zeros((len(xy), *size))
    for start in range(0, xy.shape[1], _DRAWN_AT_ONCE):
        part = slice(start, start + _DRAWN_AT_ONCE)
        drawn = rows[:, part, :, None] * columns[:, part, None, :]
        canvas = torch.maximum(canvas, drawn.amax(1))
    return canvas


def _mark_cells(windows: _Windows, size: tuple[int, int, int]) -> Tensor:
    """Dense maps (B, C, H, W) of Gaussians of one cell."""
    _, height, width = size
    cell = (windows.channel * height + windows.xy[..., 1]) * width + windows.xy[..., 0]
    cell = torch.where(windows.mask, cell, math.prod(size))
    marked = torch.zeros(len(cell), math.prod(size) + 1, device=cell.device)
    return marked.scatter_(1, cell, 1.0)[:, :-1].unflatten(1, size)


def _draw_windows(windows: _Windows, size: tuple[int, int, int]) -> Tensor:
    """Dense maps (B, C, H, W), drawn a few objects at a time."""
    xy, radius, sigma, channel, mask = windows
    rows, columns = _profiles(xy, radius, sigma, mask, size[1:])
    plane = torch.where(mask, channel, 0)[..., None]
    cells = size[1] * size[2]
    canvas = rows.new_zeros((len(xy), size[0], cells))
    for start in range(0, xy.shape[1], _DRAWN_AT_ONCE):
        part = slice(start, start + _DRAWN_AT_ONCE)
        drawn = (rows[:, part, :, None] * columns[:, part, None, :]).flatten(2)
        canvas.scatter_reduce_(1, plane[:, part].expand(-1, -1, cells), drawn, 'amax')
    return canvas.unflatten(2, size[1:])


_DRAWN_AT_ONCE = 8  # objects per image, which limits the memory


def _profiles(
    xy: Tensor, radius: Tensor, sigma: Tensor, mask: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Rows (B, M, H) of the Gaussians, 0 without an object, and columns (B, M, W)."""
    rows, columns = (
        _profile(xy[..., axis, None], radius[..., None], sigma[..., None].float(), side)
        for axis, side in ((1, size[0]), (0, size[1]))
    )
    return torch.where(mask[..., None], rows, 0), columns


def _profile(center: Tensor, radius: Tensor, sigma: Tensor, side: int) -> Tensor:
    """One axis of a Gaussian, zero outside its window: (..., 1) to (..., side)."""
    step = torch.arange(side, device=center.device) - center
    return torch.where(step.abs() <= radius, torch.exp(-(step**2) / (2 * sigma**2)), 0)


def _pad_windows(
    windows: _Windows, size: tuple[int, int, int], max_radius: int
) -> tuple[Tensor, Tensor]:
    """Windows padded to the largest size. Returns index and value, (B * M * K * K,)."""
    xy, radius, sigma, channel, mask = windows
    classes, height, width = size
    step = torch.arange(-max_radius, max_radius + 1, device=xy.device)
    x, y = xy[..., 0, None] + step, xy[..., 1, None] + step
    near = step.abs() <= radius[..., None]
    in_x = near & (x >= 0) & (x < width) & mask[..., None]
    in_y = near & (y >= 0) & (y < height)
    inside = in_y[..., :, None] & in_x[..., None, :]
    distance = step[:, None] ** 2 + step[None, :] ** 2
    value = torch.exp(-distance / (2 * sigma.float() ** 2)[..., None, None])
    image = torch.arange(xy.shape[0], device=xy.device)[:, None]
    row = ((image * classes + channel) * height)[..., None] + y
    index = row[..., :, None] * width + x[..., None, :]
    zero = index.new_zeros(())
    index = torch.where(inside, index, zero)
    bits = torch.where(inside, value, value.new_zeros(())).view(torch.int32).long()
    key = (index.flatten() << 32 | (_ONE - bits).flatten()).sort().values
    index, bits = key >> 32, _ONE - (key & 0xFFFFFFFF)
    first = torch.cat((key.new_ones(1, dtype=torch.bool), index[1:] != index[:-1]))
    value = bits.to(torch.int32).view(torch.float32)
    return index, torch.where(first, value, value.new_zeros(()))


def _list_windows(windows: _Windows, size: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Cells of the windows only, on the CPU. Returns index and value, (N,)."""
    classes, height, width = size
    image = np.nonzero(windows.mask.numpy())[0]
    xy, radius, sigma, channel = (each.numpy()[windows.mask.numpy()] for each in windows[:4])
    plane = image * classes + channel
    x, y = xy.astype(np.int64).T
    r = radius.astype(np.int64)
    scale = (-0.5 / sigma.astype(np.float64) ** 2).astype(np.float32)

    side = 2 * r + 1
    owner = np.repeat(np.arange(len(r)), side)  # one entry per row of each window
    dy = np.arange(len(owner)) - np.repeat(np.cumsum(side) - side + r, side)
    fits = (y[owner] + dy >= 0) & (y[owner] + dy < height)
    owner, dy = owner[fits], dy[fits]
    left, right = np.maximum(x - r, 0)[owner], np.minimum(x + r, width - 1)[owner]
    length = np.maximum(right - left + 1, 0)
    start = (plane[owner] * height + y[owner] + dy) * width + left
    offset = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    index = np.repeat(start, length) + offset
    dx = np.repeat(left - x[owner], length) + offset
    distance = (np.repeat(dy * dy, length) + dx * dx).astype(np.float32)
    value = np.exp(distance * np.repeat(scale[owner], length), dtype=np.float32)

    key = np.sort(index << 32 | (_ONE - value.view(np.int32).astype(np.int64)))
    index = key >> 32
    first = np.empty(len(index), dtype=bool)
    first[:1], first[1:] = True, index[1:] != index[:-1]
    value = (_ONE - (key[first] & 0xFFFFFFFF)).astype(np.int32).view(np.float32)
    return torch.from_numpy(index[first]), torch.from_numpy(value)
