"""Triton kernel of positives that are given by their cells.

Parameters as in :mod:`mmdet_losses.ops.kernels.gpu.focal_kernels`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mmdet_losses.ops.kernels.gpu.focal_kernels import cost_and_slope, scales_of


@triton.jit
def object_kernel(
    logits,
    place,
    factor,
    divisor,
    grad,
    out_slopes,
    out_sums,
    objects,
    inverse,
    low,
    high,
    expected,
    FOCUS: tl.constexpr,
    BOUNDED: tl.constexpr,
    DIVIDE: tl.constexpr,
    GRAD: tl.constexpr,
    FACTORS: tl.constexpr,
    SUMS: tl.constexpr,
    SLOPES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Costs of objects as positives, and their slopes added to those of the map; grid (blocks,).

    The first object of a cell adds the slopes of all objects in the cell.
    """
    own = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    cell = tl.load(place + own, mask=own < objects, other=0).to(tl.int32)
    weight = (own < objects).to(tl.float32)
    if FACTORS:
        weight = tl.load(factor + own, mask=own < objects, other=0).to(tl.float32)
    x = tl.load(logits + cell, mask=weight != 0, other=0.0).to(tl.float32)
    cost, slope = cost_and_slope(x, own >= 0, 1.0, low, high, FOCUS, BOUNDED)
    scale = tl.sum(scales_of(divisor, None, 0, 1, inverse, DIVIDE, 1), 0)
    if SUMS:
        total = tl.sum(tl.where(weight != 0, cost * weight, 0.0), 0) * scale
        tl.store(out_sums + tl.program_id(0), total)
    if SLOPES:
        together = tl.zeros([BLOCK], tl.float32)
        earlier = tl.zeros([BLOCK], tl.int32)
        for start in range(0, objects, 32):
            other = start + tl.arange(0, 32)
            there = tl.load(place + other, mask=other < objects, other=-1).to(tl.int32)
            share = (other < objects).to(tl.float32)
            if FACTORS:
                share = tl.load(factor + other, mask=other < objects, other=0).to(tl.float32)
            same = (cell[:, None] == there[None, :]) & (share != 0)[None, :]
            together += tl.sum(tl.where(same, share[None, :], 0.0), 1)
            earlier += tl.sum((same & (other[None, :] < own[:, None])).to(tl.int32), 1)
        if GRAD:
            scale *= tl.load(grad).to(tl.float32)
        first = (weight != 0) & (earlier == 0)
        sum_of_map = tl.load(out_slopes + cell, mask=first, other=0.0).to(tl.float32)
        slope = sum_of_map + slope * together * scale * expected
        tl.store(out_slopes + cell, slope, mask=first)
