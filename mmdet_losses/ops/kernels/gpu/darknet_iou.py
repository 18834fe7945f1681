"""darknet's update direction of paired boxes on a GPU: one launch.

The formulas are those of :class:`mmdet_losses.ops.darknet_iou.DarknetPair`; each lane has one pair.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmdet_losses.ops.kernels.gpu.paired_iou import angle_of
from mmdet_losses.ops.kernels.launch import bytes_of, launch

BLOCK = 128
ASPECT = tl.constexpr(0.4052847345693511)  # 4 / pi^2


@triton.jit
def _edges(center, size):
    """Low and high edge along one axis; those of an inverted box are exchanged."""
    first, second = center - 0.5 * size, center + 0.5 * size
    return tl.minimum(first, second), tl.maximum(first, second)


@triton.jit
def _axis(center, size, center_t, size_t):
    """Along one axis: sides of both boxes, of the overlap and of the hull, and how far the low and
    high edge are outside the target."""
    low, high = _edges(center, size)
    low_t, high_t = _edges(center_t, size_t)
    common = tl.minimum(high, high_t) - tl.maximum(low, low_t)
    hull = tl.maximum(high, high_t) - tl.minimum(low, low_t)
    return high - low, high_t - low_t, common, hull, low_t - low, high - high_t


@triton.jit
def _by_edge(sign, outward, side, common, hull, union, inter, area, MODE: tl.constexpr):
    """Derivatives of IoU and GIoU's penalty by an edge, from lengths along the other axis."""
    by_inter = tl.where(outward < 0, sign * common, 0.0)
    by_union = sign * side - by_inter
    slope = tl.where(union > 0, (union * by_inter - inter * by_union) / (union * union), 0.0)
    penalty = slope
    if MODE == 'giou':
        by_hull = tl.where(outward > 0, sign * hull, 0.0)
        penalty = (area * by_union - union * by_hull) / (area * area)
    return slope, penalty


@triton.jit
def _direction(
    side, other, common, hull, outer_low, outer_high, union, inter, apart, area, MODE: tl.constexpr
):
    """Direction of centre and size along one axis; ``other``, ``common`` and ``hull`` are lengths
    along the other axis."""
    low, penalty_low = _by_edge(-1.0, outer_low, other, common, hull, union, inter, area, MODE)
    high, penalty_high = _by_edge(1.0, outer_high, other, common, hull, union, inter, area, MODE)
    low = tl.where(side > 0, low, high)  # both edges of an empty box take that of the high one
    if MODE == 'giou':
        low = tl.where(apart, penalty_low, low + tl.where(area > 0, penalty_low, 0.0))
        high = tl.where(apart, penalty_high, high + tl.where(area > 0, penalty_high, 0.0))
    return low + high, high - low


@triton.jit
def _pull(gap, hull, outer_low, outer_high, distance, diagonal):
    """Direction of the distance term for centre and size along one axis."""
    square, reach = diagonal * diagonal, hull * distance
    low, high = (outer_low > 0).to(tl.float32), (outer_high > 0).to(tl.float32)
    return 2 * (gap * diagonal - reach * (high - low)) / square, reach * (low + high) / square


@triton.jit
def _angle(w, h):
    """arctan(w / h); NaN for a box of 0 x 0."""
    return tl.where((w == 0) & (h == 0), float('nan'), angle_of(w, h))


@triton.jit
def direction_kernel(
    pred,
    target,
    out_direction,
    out_iou,
    pairs,
    MODE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Direction and IoU of a block of pairs (cx, cy, w, h); grid (blocks,)."""
    pair = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pair < pairs
    x = tl.load(pred + 4 * pair, mask=inside, other=0.0)
    y = tl.load(pred + 4 * pair + 1, mask=inside, other=0.0)
    w = tl.load(pred + 4 * pair + 2, mask=inside, other=1.0)
    h = tl.load(pred + 4 * pair + 3, mask=inside, other=1.0)
    x_t = tl.load(target + 4 * pair, mask=inside, other=0.0)
    y_t = tl.load(target + 4 * pair + 1, mask=inside, other=0.0)
    w_t = tl.load(target + 4 * pair + 2, mask=inside, other=1.0)
    h_t = tl.load(target + 4 * pair + 3, mask=inside, other=1.0)
    side_x, side_xt, common_x, hull_x, left, right = _axis(x, w, x_t, w_t)
    side_y, side_yt, common_y, hull_y, top, bottom = _axis(y, h, y_t, h_t)
    inter = common_x * common_y
    union = side_x * side_y + side_xt * side_yt - inter
    apart = (common_x <= 0) | (common_y <= 0)
    ratio, area = inter / union, hull_x * hull_y
    by_x, by_w = _direction(
        side_x, side_y, common_y, hull_y, left, right, union, inter, apart, area, MODE
    )
    by_y, by_h = _direction(
        side_y, side_x, common_x, hull_x, top, bottom, union, inter, apart, area, MODE
    )
    if MODE == 'diou' or MODE == 'ciou':
        gap_x, gap_y = x_t - x, y_t - y
        distance, diagonal = gap_x * gap_x + gap_y * gap_y, hull_x * hull_x + hull_y * hull_y
        pull_x, pull_w = _pull(gap_x, hull_x, left, right, distance, diagonal)
        pull_y, pull_h = _pull(gap_y, hull_y, top, bottom, distance, diagonal)
        if MODE == 'ciou':
            angle = _angle(w_t, h_t) - _angle(w, h)
            value = ASPECT * angle * angle
            slope = 2 * ASPECT * value / (1 - ratio + value + 1e-6) * angle
            pull_w, pull_h = pull_w + slope * h, pull_h - slope * w
        some = diagonal > 0
        by_x = tl.where(apart, pull_x, by_x + tl.where(some, pull_x, 0.0))
        by_y = tl.where(apart, pull_y, by_y + tl.where(some, pull_y, 0.0))
        by_w = tl.where(apart, pull_w, by_w + tl.where(some, pull_w, 0.0))
        by_h = tl.where(apart, pull_h, by_h + tl.where(some, pull_h, 0.0))
    tl.store(out_direction + 4 * pair, by_x, mask=inside)
    tl.store(out_direction + 4 * pair + 1, by_y, mask=inside)
    tl.store(out_direction + 4 * pair + 2, by_w, mask=inside)
    tl.store(out_direction + 4 * pair + 3, by_h, mask=inside)
    tl.store(out_iou + pair, tl.where(apart, 0.0, ratio), mask=inside)


def direction_and_iou(pred: Tensor, target: Tensor, mode: str) -> tuple[Tensor, Tensor]:
    """Direction (..., 4) and IoU (...) of boxes (..., 4) cxcywh of one shape."""
    pred, target = pred.detach().contiguous(), target.detach().to(pred).contiguous()
    direction, iou = torch.empty_like(pred), pred.new_empty(pred.shape[:-1])
    launch(
        *(direction_kernel, (triton.cdiv(iou.numel(), BLOCK),)),
        *(pred, target, direction, iou, iou.numel()),
        MODE=mode,
        BLOCK=BLOCK,
        enable_fp_fusion=False,  # decisions at equal edges as in the eager formula
        moved=bytes_of(pred, target, direction, iou),
    )
    return direction, iou
