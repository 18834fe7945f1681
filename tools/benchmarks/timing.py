"""Shared parts of the benchmarks: ground truth, timing in turns, lines of the table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from mmengine.structures import InstanceData


class Line(NamedTuple):
    """One line of the table; times in milliseconds."""

    what: str
    setting: str
    ours: float
    ours_spread: float
    theirs: float | None
    theirs_spread: float | None
    ratio: float | None
    bar: float | None


def timed(*functions: Callable[[], object], repeats: int) -> list[list[float]]:
    """Milliseconds of every call; the functions take turns after one warm-up call each."""
    for function in functions:
        function()
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for row, function in zip(times, functions, strict=True):
            start = time.perf_counter()
            function()
            row.append(1e3 * (time.perf_counter() - start))
    return times


def middle(times: list[float]) -> tuple[float, float]:
    """Median, and distance of the quartiles."""
    low, _, high = statistics.quantiles(times, n=4) if len(times) > 1 else (times[0],) * 3
    return statistics.median(times), high - low


def against(
    what: str,
    setting: object,
    ours: Callable[[], object],
    theirs: Callable[[], object] | None,
    repeats: int,
    bar: float | None = None,
) -> Line:
    """Time our function, and theirs if it is given."""
    rows = timed(*(each for each in (ours, theirs) if each), repeats=repeats)
    (mine, mine_spread), other = middle(rows[0]), middle(rows[1]) if theirs else (None, None)
    ratio = other[0] / mine if theirs else None
    return Line(what, str(setting), mine, mine_spread, *other, ratio, bar)


def boxes_like_coco(
    images: int, objects: int, classes: int, side: int, seed: int = 0
) -> list[InstanceData]:
    """Boxes with sizes as in COCO: log-uniform sides from 16 to 256 input pixels."""
    generator = torch.Generator().manual_seed(seed)
    batch = []
    for _ in range(images):
        size = torch.exp(torch.rand(objects, 2, generator=generator) * 2.772 + 2.772).clamp(
            max=side - 8
        )
        corner = torch.rand(objects, 2, generator=generator) * (side - 4 - size)
        labels = torch.randint(classes, (objects,), generator=generator)
        batch.append(InstanceData(bboxes=torch.cat((corner, corner + size), 1), labels=labels))
    return batch


def show(line: Line) -> None:
    """Print a line of the table."""
    theirs = '' if line.theirs is None else f'{line.theirs:9.2f} ± {line.theirs_spread:6.2f}'
    ratio = '' if line.ratio is None else f'{line.ratio:6.1f}x'
    bar = (
        ''
        if line.bar is None
        else f'bar {line.bar:g}x {"ok" if line.ratio >= line.bar else "MISSED"}'
    )
    ours = f'{line.ours:9.2f} ± {line.ours_spread:6.2f}'
    print(f'{line.what:30} {line.setting:38} {ours} {theirs:18} {ratio:8} {bar}', flush=True)
