"""Local maxima of heatmaps on a GPU: window maximum, threshold and sigmoid in one launch."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmdet_losses.ops.kernels.launch import bytes_of, launch

BLOCK = 1024


@triton.jit
def peak_kernel(
    heatmap,
    out_scores,
    height,
    width,
    lowest,
    REACH: tl.constexpr,
    SIGMOID: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Scores of the peaks in a block of cells of one map, 0 elsewhere; grid (maps, blocks)."""
    start = tl.program_id(0) * height * width
    cell = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = cell < height * width
    x, y = cell % width, cell // width
    own = tl.load(heatmap + start + cell, mask=inside, other=0.0).to(tl.float32)
    highest = own
    for dy in tl.static_range(-REACH, REACH + 1):
        for dx in tl.static_range(-REACH, REACH + 1):
            near = inside & (x + dx >= 0) & (x + dx < width) & (y + dy >= 0) & (y + dy < height)
            place = start + cell + dy * width + dx
            value = tl.load(heatmap + place, mask=near, other=float('-inf')).to(tl.float32)
            highest = tl.maximum(highest, value)
    score = own
    if SIGMOID:
        # logits whose scores are equal in float32 are a plateau
        score = tl.sigmoid(own)
        highest = tl.sigmoid(highest)
    peak = (score == highest) & (own >= lowest)
    tl.store(out_scores + start + cell, tl.where(peak, score, 0.0), mask=inside)


def peak_scores(
    heatmap: Tensor, kernel: int, sigmoid: bool = False, lowest: float = -math.inf
) -> Tensor:
    """Scores of the cells that are the maximum of their window, 0 elsewhere.

    Shape:
        heatmap: (..., H, W). Returns the same shape.

    Args:
        sigmoid: ``heatmap`` has logits, the result float32 scores; otherwise scores, which are
            returned in their dtype.
        lowest: smallest logit (or score) of a peak.
    """
    heatmap = heatmap.contiguous()
    height, width = heatmap.shape[-2:]
    scores = torch.empty_like(heatmap, dtype=torch.float32 if sigmoid else heatmap.dtype)
    launch(
        *(peak_kernel, (heatmap.numel() // (height * width), triton.cdiv(height * width, BLOCK))),
        *(heatmap, scores, height, width, lowest),
        REACH=kernel // 2,
        SIGMOID=sigmoid,
        BLOCK=BLOCK,
        moved=bytes_of(heatmap, scores),
    )
    return scores
