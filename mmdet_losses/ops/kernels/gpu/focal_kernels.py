"""Triton kernels of the focal losses.

The map is a tensor of ``images`` x ``cells`` logits. Parameters that several kernels share:

* ``weight``: a factor on every cell; the one of an offset within an image is at ``image *
  image_step + offset // inner * outer_step + offset % inner * inner_step``.
* ``counts``: (``rows``, ``images``) int32, partial numbers of positives, see DIVIDE.
* ``low``, ``high``: range of the logits if BOUNDED.
* FOCUS: exponent of the focal factor.
* BALANCE: exponent of 1 - t; of labels, the factor on the positives.
* DIVIDE: what the sum is divided by: 'number' (``inverse`` is its inverse), 'tensor' (the scalar at
  ``divisor``), 'positives' of all images or of each image ('positives_per_image', then the mean
  over the images).
* GRAD: also multiply the slopes by the scalar at ``grad``.
* ``expected``: a factor on the slopes, see ``ExpectedGradient``.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def cost_and_slope(x, positive, factor, low, high, FOCUS: tl.constexpr, BOUNDED: tl.constexpr):
    """Cost of a logit, and its derivative; a positive has the cost of -x."""
    inside = x
    if BOUNDED:
        inside = tl.where(x < low, low, tl.where(x > high, high, x))  # NaN stays
    z = tl.where(positive, -inside, inside)
    e = tl.exp(-tl.abs(z))
    s = e / (2.0 + e)
    q = s * s
    # log(1 + e) = 2 artanh(e / (2 + e)), accurate for small e; the first omitted term is below 2e-8
    series = 1 / 7 + q * (1 / 9 + q * (1 / 11 + q * (1 / 13)))
    log = 2.0 * s * (1.0 + q * (1 / 3 + q * (1 / 5 + q * series)))
    soft = tl.maximum(z, 0.0) + log
    larger = 1.0 / (1.0 + e)
    smaller = e * larger
    score = tl.where(z >= 0, larger, smaller)
    rest = tl.where(z >= 0, smaller, larger)
    if FOCUS == 2:
        scale = factor * score * score
    else:
        scale = factor * tl.exp(FOCUS * (tl.minimum(z, 0.0) - log))
    slope = scale * (FOCUS * rest * soft + score)
    slope = tl.where(positive, -slope, slope)
    if BOUNDED:
        slope = tl.where(inside == x, slope, 0.0)
    return scale * soft, slope


@triton.jit
def _penalty(t, positive, BALANCE: tl.constexpr):
    """(1 - t) ** BALANCE; 1 for a positive."""
    base = tl.where(positive, 1.0, 1.0 - t)
    if BALANCE == 4:
        return base * base * base * base
    if BALANCE % 2 == 0:  # targets above 1
        base = tl.abs(base)
    return tl.exp(BALANCE * tl.log(base))


@triton.jit
def scales_of(
    divisor,
    counts,
    rows,
    images,
    inverse,
    DIVIDE: tl.constexpr,
    IMAGES: tl.constexpr,
):
    """Inverse divisor of each image, (IMAGES,)."""
    scale = tl.zeros([IMAGES], tl.float32)
    if DIVIDE == 'number':
        scale += inverse
    elif DIVIDE == 'tensor':
        scale += 1.0 / tl.maximum(tl.load(divisor).to(tl.float32), 1.1920928955078125e-07)
    else:
        count = _column_sums(counts, rows, images, IMAGES)
        if DIVIDE == 'positives':
            scale += 1.0 / tl.maximum(tl.sum(count, 0), 1.0)
        else:
            scale += 1.0 / (tl.maximum(count, 1.0) * images)
    return scale


@triton.jit
def _column_sums(table, rows, columns, COLUMNS: tl.constexpr):
    """Sums of a (rows, columns) table over the rows, in a fixed order."""
    column = tl.arange(0, COLUMNS)
    total = tl.zeros([COLUMNS], tl.float32)
    for start in range(0, rows, 16):
        row = start + tl.arange(0, 16)
        inside = (row < rows)[:, None] & (column < columns)[None, :]
        part = tl.load(table + row[:, None] * columns + column[None, :], mask=inside, other=0)
        total += tl.sum(part.to(tl.float32), 0)
    return total


@triton.jit
def _weights(weight, image, offset, inside, inner, image_step, outer_step, inner_step):
    place = image * image_step + offset // inner * outer_step + offset % inner * inner_step
    return tl.load(weight + place, mask=inside, other=0).to(tl.float32)


@triton.jit
def _targets(target, start, offset, inside, inner, KIND: tl.constexpr, BALANCE: tl.constexpr):
    """Which cells are positive, and the factors of the costs."""
    if KIND == 'labels':
        label = tl.load(target + offset // inner, mask=inside, other=-1)
        positive = label == offset % inner
        factor = tl.where(positive, BALANCE, 1 - BALANCE)
    elif KIND == 'dense':
        t = tl.load(target + start + offset, mask=inside, other=0.0).to(tl.float32)
        positive = t == 1.0
        factor = _penalty(t, positive, BALANCE)
    else:
        positive = offset < 0
        factor = 1.0
    return positive, factor


@triton.jit
def _load_splats(logits, index, value, entry, entries, cells):
    """Target, place, image and logit of the entries; those with a target of 0 are padding."""
    inside = (entry >= 0) & (entry < entries)
    t = tl.load(value + entry, mask=inside, other=0.0)
    place = tl.load(index + entry, mask=t > 0, other=0).to(tl.int32)
    x = tl.load(logits + place, mask=t > 0, other=0.0).to(tl.float32)
    return t, place, place // cells, x


@triton.jit
def _scale_of(image, present, scales, images, IMAGES: tl.constexpr):
    """Scale of the image of each entry."""
    scale = tl.zeros_like(image).to(tl.float32)
    # the encoders list the images in order, so a block has few
    first = tl.min(tl.where(present, image, images), 0)
    last = tl.max(tl.where(present, image, -1), 0)
    for own in range(first, last + 1):
        here = tl.sum(tl.where(tl.arange(0, IMAGES) == own, scales, 0.0), 0)
        scale += tl.where(image == own, here, 0.0)
    return scale


@triton.jit
def map_kernel(
    logits,
    target,
    weight,
    divisor,
    counts,
    grad,
    out_slopes,
    out_sums,
    cells,
    inner,
    image_step,
    outer_step,
    inner_step,
    rows,
    images,
    inverse,
    low,
    high,
    expected,
    KIND: tl.constexpr,
    FOCUS: tl.constexpr,
    BALANCE: tl.constexpr,
    BOUNDED: tl.constexpr,
    WEIGHTED: tl.constexpr,
    DIVIDE: tl.constexpr,
    GRAD: tl.constexpr,
    SUMS: tl.constexpr,
    SLOPES: tl.constexpr,
    IMAGES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Costs and slopes of a block of one image; grid (blocks, images).

    ``out_sums``: (images, blocks), the divided sum of each block.
    KIND: 'background', 'dense' (``target`` is a map) or 'labels' (``target`` has one label per
    ``inner`` logits).
    """
    image = tl.program_id(1)
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offset < cells
    x = tl.load(logits + image * cells + offset, mask=inside, other=0.0).to(tl.float32)
    positive, factor = _targets(target, image * cells, offset, inside, inner, KIND, BALANCE)
    if WEIGHTED:
        factor *= _weights(weight, image, offset, inside, inner, image_step, outer_step, inner_step)
    cost, slope = cost_and_slope(x, positive, factor, low, high, FOCUS, BOUNDED)
    scales = scales_of(divisor, counts, rows, images, inverse, DIVIDE, IMAGES)
    scale = tl.sum(tl.where(tl.arange(0, IMAGES) == image, scales, 0.0), 0)
    if SUMS:
        total = tl.sum(tl.where(inside, cost, 0.0), 0) * scale
        tl.store(out_sums + image * tl.num_programs(0) + tl.program_id(0), total)
    if SLOPES:
        if GRAD:
            scale *= tl.load(grad).to(tl.float32)
        tl.store(out_slopes + image * cells + offset, slope * scale * expected, mask=inside)


@triton.jit
def splat_kernel(
    logits,
    index,
    value,
    weight,
    out_costs,
    out_counts,
    entries,
    cells,
    inner,
    image_step,
    outer_step,
    inner_step,
    images,
    low,
    high,
    FOCUS: tl.constexpr,
    BALANCE: tl.constexpr,
    BOUNDED: tl.constexpr,
    WEIGHTED: tl.constexpr,
    IMAGES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Cost minus background cost of the splats, and positives, per image; grid (rows,).

    ``out_costs``, ``out_counts``: (rows, images).
    """
    entry = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    t, place, image, x = _load_splats(logits, index, value, entry, entries, cells)
    present, positive = t > 0, t == 1.0
    factor = tl.where(present, 1.0, 0.0)
    if WEIGHTED:
        factor *= _weights(
            weight, image, place % cells, present, inner, image_step, outer_step, inner_step
        )
    cost, _ = cost_and_slope(x, positive, _penalty(t, positive, BALANCE), low, high, FOCUS, BOUNDED)
    background, _ = cost_and_slope(x, entry < 0, 1.0, low, high, FOCUS, BOUNDED)
    change = tl.where(factor != 0, (cost - background) * factor, 0.0)
    count = (positive & (factor != 0)).to(tl.int32)
    column = tl.arange(0, IMAGES)
    costs = tl.zeros([IMAGES], tl.float32)
    counts = tl.zeros([IMAGES], tl.int32)
    first = tl.min(tl.where(present, image, images), 0)
    last = tl.max(tl.where(present, image, -1), 0)
    for own in range(first, last + 1):
        costs += tl.where(column == own, tl.sum(tl.where(image == own, change, 0.0), 0), 0.0)
        counts += tl.where(column == own, tl.sum(tl.where(image == own, count, 0), 0), 0)
    out = tl.program_id(0) * images + column
    tl.store(out_costs + out, costs, mask=column < images)
    tl.store(out_counts + out, counts, mask=column < images)


@triton.jit
def _total(
    sums,
    costs,
    divisor,
    counts,
    blocks,
    rows,
    images,
    inverse,
    DIVIDE: tl.constexpr,
    IMAGES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Sum of the sums of the blocks and of the costs of the splats."""
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, blocks, BLOCK):
        block = start + tl.arange(0, BLOCK)
        total += tl.load(sums + block, mask=block < blocks, other=0.0)
    result = tl.sum(total, 0)
    if costs is not None:
        scales = scales_of(divisor, counts, rows, images, inverse, DIVIDE, IMAGES)
        result += tl.sum(_column_sums(costs, rows, images, IMAGES) * scales, 0)
    return result


@triton.jit
def finish_kernel(
    logits,
    index,
    value,
    weight,
    divisor,
    counts,
    grad,
    sums,
    costs,
    out_slopes,
    out_total,
    entries,
    blocks,
    cells,
    inner,
    image_step,
    outer_step,
    inner_step,
    rows,
    images,
    inverse,
    low,
    high,
    expected,
    FOCUS: tl.constexpr,
    BALANCE: tl.constexpr,
    BOUNDED: tl.constexpr,
    WEIGHTED: tl.constexpr,
    DIVIDE: tl.constexpr,
    GRAD: tl.constexpr,
    SUMS: tl.constexpr,
    SLOPES: tl.constexpr,
    IMAGES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The total (program 0, if SUMS), and the slopes of the splats (the other programs)."""
    program = tl.program_id(0)
    if SUMS:
        program -= 1
        if program < 0:
            total = _total(
                sums, costs, divisor, counts, blocks, rows, images, inverse, DIVIDE, IMAGES, BLOCK
            )
            tl.store(out_total, total)
    if SLOPES:
        entry = program * BLOCK + tl.arange(0, BLOCK)  # program -1 has none
        t, place, image, x = _load_splats(logits, index, value, entry, entries, cells)
        present, positive = t > 0, t == 1.0
        factor = _penalty(t, positive, BALANCE)
        if WEIGHTED:
            factor *= _weights(
                weight, image, place % cells, present, inner, image_step, outer_step, inner_step
            )
        _, slope = cost_and_slope(x, positive, factor, low, high, FOCUS, BOUNDED)
        scales = scales_of(divisor, counts, rows, images, inverse, DIVIDE, IMAGES)
        scale = _scale_of(image, present, scales, images, IMAGES)
        if GRAD:
            scale *= tl.load(grad).to(tl.float32)
        tl.store(out_slopes + place, slope * scale * expected, mask=present)


@triton.jit
def rescale_kernel(grad, out_slopes, cells, expected, BLOCK: tl.constexpr):
    """Multiply the slopes by ``grad / expected`` in place; nothing to do if both are equal."""
    factor = tl.load(grad).to(tl.float32)
    if factor != expected:
        scale = factor / expected
        offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        inside = offset < cells
        slope = tl.load(out_slopes + offset, mask=inside, other=0.0)
        tl.store(out_slopes + offset, slope * scale, mask=inside)
