"""Objects that can have a target, on a GPU: one launch for a batch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmdet_losses.ops.kernels.launch import bytes_of, launch
from mmdet_losses.ops.kernels.usable import BoxRule

BLOCK = 128


@triton.jit
def clip(value, limit):
    """``value`` clamped to [0, limit]; NaN stays NaN."""
    value = tl.maximum(value, 0.0, propagate_nan=tl.PropagateNan.ALL)
    return tl.minimum(value, limit, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _axis(low, high, scale, largest, limit, REGION: tl.constexpr):
    """The edges of a box along one axis, and whether they fit the rule."""
    low, high = low * scale, high * scale
    size = high - low
    fits = size <= largest
    if REGION == 'clip':
        low, high = clip(low, limit), clip(high, limit)
        fits = fits & (high - low > 0)
    elif REGION == 'center':
        center = (low + high) * 0.5
        fits = fits & (size > 0) & (center >= 0) & (center < limit)
    else:
        fits = fits & (size > 0) & (high > 0) & (low < limit)
    return low, high, fits


@triton.jit
def usable_kernel(
    boxes,
    labels,
    real,
    out_boxes,
    out_labels,
    out_usable,
    count,
    num_classes,
    scale_x,
    scale_y,
    largest_x,
    largest_y,
    limit_x,
    limit_y,
    fill_low,
    fill_high,
    KIND: tl.constexpr,
    FILL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One object per lane; grid (blocks,). KIND: the region of the rule."""
    slot = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = slot < count
    x1 = tl.load(boxes + 4 * slot, mask=inside, other=0.0)
    y1 = tl.load(boxes + 4 * slot + 1, mask=inside, other=0.0)
    x2 = tl.load(boxes + 4 * slot + 2, mask=inside, other=0.0)
    y2 = tl.load(boxes + 4 * slot + 3, mask=inside, other=0.0)
    label = tl.load(labels + slot, mask=inside, other=-1)
    x1, x2, fits_x = _axis(x1, x2, scale_x, largest_x, limit_x, KIND)
    y1, y2, fits_y = _axis(y1, y2, scale_y, largest_y, limit_y, KIND)
    known = (label >= 0) & (label < num_classes)
    usable = fits_x & fits_y & known & (tl.load(real + slot, mask=inside, other=0) != 0)
    if FILL:
        x1, y1 = tl.where(usable, x1, fill_low), tl.where(usable, y1, fill_low)
        x2, y2 = tl.where(usable, x2, fill_high), tl.where(usable, y2, fill_high)
    tl.store(out_boxes + 4 * slot, x1, mask=inside)
    tl.store(out_boxes + 4 * slot + 1, y1, mask=inside)
    tl.store(out_boxes + 4 * slot + 2, x2, mask=inside)
    tl.store(out_boxes + 4 * slot + 3, y2, mask=inside)
    tl.store(out_labels + slot, tl.where(usable, label, 0), mask=inside)
    tl.store(out_usable + slot, usable, mask=inside)


def usable_objects(
    boxes: Tensor, labels: Tensor, real: Tensor, num_classes: int, rule: BoxRule
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`mmdet_losses.ops.kernels.usable.usable_objects`."""
    given = boxes.contiguous(), labels.contiguous(), real.contiguous()
    made = torch.empty_like(given[0]), torch.empty_like(given[1]), torch.empty_like(given[2])
    numbers = (*rule.scale, *rule.largest, *rule.limit, *(rule.fill or (0.0, 0.0)))
    launch(
        *(usable_kernel, (triton.cdiv(labels.numel(), BLOCK),), *given, *made),
        *(labels.numel(), num_classes, *map(float, numbers)),
        KIND=rule.region,
        FILL=rule.fill is not None,
        BLOCK=BLOCK,
        enable_fp_fusion=False,  # the bits of the eager formula
        moved=bytes_of(*given, *made),
    )
    return made
