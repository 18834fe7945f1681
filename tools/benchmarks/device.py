"""Times, memory and launches on a device, and a smoke test against the numbers of the CPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._pytree import tree_leaves, tree_map

from mmdet_losses.core.compiled import CompiledLoss
from mmdet_losses.registry import MODELS
from tools.benchmarks import heatmaps
from tools.benchmarks.launch_table import Work, their_step, work_of

WARM_UP = 3
FLUSHED = 256 << 20
"""Bytes that are written between two measurements: more than the L2 cache of an H100 or H200."""
TOLERANCE = {torch.float32: 2e-3, torch.float16: 3e-2, torch.bfloat16: 1e-1}
"""Relative tolerance of a loss on the device against float32 on the CPU."""


class Measured(NamedTuple):
    """Result of :func:`measure`."""

    ms: float
    spread: float
    """Distance of the quartiles."""
    peak_mb: float | None
    """Greatest memory above that before the call; None on the CPU."""
    launches: int | None
    """Kernels that the profiler records; None on the CPU."""


def measure(function: Callable[[], Any], device: str, repeats: int) -> Measured:
    """Time of a call by CUDA events, with a cold L2 cache; by the clock on the CPU."""
    for _ in range(WARM_UP):
        function()
    if device == 'cpu':
        times = [_clocked(function) for _ in range(repeats)]
        return Measured(*_middle(times), None, None)
    flush = torch.empty(FLUSHED, dtype=torch.uint8, device=device)
    times = []
    for _ in range(repeats):
        flush.zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    function()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        function()
        torch.cuda.synchronize()
    kernels = [
        event
        for event in recorded.events()
        if event.device_type == torch.autograd.DeviceType.CUDA and 'Mem' not in event.name
    ]
    return Measured(*_middle(times), peak / 1e6, len(kernels))


def _clocked(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - start)


def _middle(times: list[float]) -> tuple[float, float]:
    low, _, high = statistics.quantiles(times, n=4) if len(times) > 1 else (times[0],) * 3
    return statistics.median(times), high - low


def compiled_step(work: Work) -> Callable[[], Any]:
    """The step of a detector with encoder and criterion compiled as one graph."""
    run = CompiledLoss({})
    leaves = [each for each in tree_leaves(work.outputs) if isinstance(each, Tensor)]
    statistics_of = work.encoder.statistics(work.encode())

    def step() -> None:
        terms = run(work.encoder, work.criterion, work.outputs, work.gt_instances, work.size, None)
        total = sum(value for name, value in terms.items() if name not in statistics_of)
        torch.autograd.grad(total, leaves, allow_unused=True)

    return step


def focal_functions(device: str) -> dict[str, Callable[[], Any]]:
    """Forward and backward of the heatmap focal loss: ours and MMDetection's, also compiled."""
    setting = heatmaps.Setting(4, 80, 128, 15)
    gt_instances = [each.to(device) for each in heatmaps.ground_truth(setting)]
    target = heatmaps.encode(heatmaps.points_encoder(setting), setting, gt_instances).heatmap
    dense = target.dense()
    logits = heatmaps.logits_like(setting).to(device).requires_grad_()
    theirs = MODELS.build(dict(type='mmdet.GaussianFocalLoss'))

    def formula(x: Tensor) -> Tensor:
        return theirs(x.sigmoid().clamp(1e-4, 1 - 1e-4), dense, avg_factor=60)

    def of(loss: Callable[[Tensor], Tensor]) -> Callable[[], Any]:
        return lambda: torch.autograd.grad(loss(logits), logits)

    ours = MODELS.build(dict(type='PenaltyReducedFocalLoss'))
    fused = MODELS.build(dict(type='PenaltyReducedFocalLoss', compile=True))
    return {
        'ours': of(lambda x: ours(x, target)),
        'ours, compiled': of(lambda x: fused(x, target)),
        'MMDetection': of(formula),
        'MMDetection, compiled': of(torch.compile(formula)),
    }


def device_lines(device: str, repeats: int, stems: Sequence[str], compiled: bool) -> list[str]:
    """Lines of the table: the focal loss, then encode + loss + gradient of the detectors."""
    lines = ['| what | who | ms | peak, MB | kernels |', '|---|---|---|---|---|']

    def add(what: str, who: str, function: Callable[[], Any]) -> None:
        found = measure(function, device, repeats)
        memory = '' if found.peak_mb is None else f'{found.peak_mb:.0f}'
        kernels = '' if found.launches is None else str(found.launches)
        lines.append(
            f'| {what} | {who} | {found.ms:.3f} ± {found.spread:.3f} | {memory} | {kernels} |'
        )

    for who, function in focal_functions(device).items():
        if compiled or 'compiled' not in who:
            add('focal loss', who, function)
    for stem in stems:
        work = work_of(stem, device=device)
        add(stem, 'ours', work.step)
        if compiled:
            add(stem, 'ours, compiled', compiled_step(work))
        theirs = their_step(stem, device)
        if theirs is not None:
            add(stem, 'MMDetection', theirs)
    return lines


def smoke(device: str, stems: Sequence[str]) -> list[str]:
    """Train step, decoding and half precision of the detectors on a device, against the CPU.

    Returns:
        One line per detector; a line that starts with "FAILED" has the difference.
    """
    half = torch.bfloat16 if device == 'cpu' else torch.float16
    return [_smoke_line(stem, device, half) for stem in stems]


def _smoke_line(stem: str, device: str, half: torch.dtype) -> str:
    work, there = (work_of(stem, images=2, objects=5, device=each) for each in ('cpu', device))
    want = work.losses(work.outputs)
    leaves = [each for each in tree_leaves(there.outputs) if isinstance(each, Tensor)]
    faults = []
    for dtype in (torch.float32, half):
        outputs = tree_map(
            lambda x, to=dtype: x.to(to) if isinstance(x, Tensor) else x, there.outputs
        )
        have = there.losses(outputs)
        for name, value in want.items():
            low = TOLERANCE[dtype] * (1 + abs(float(value)))
            if not abs(float(have[name]) - float(value)) <= low:
                faults.append(f'{name} in {dtype} is {float(have[name])}, not {float(value)}')
        gradients = torch.autograd.grad(sum(have.values()), leaves, allow_unused=True)
        if not all(each is None or bool(each.isfinite().all()) for each in gradients):
            faults.append(f'a gradient in {dtype} is not finite')
    with torch.no_grad():
        pairs = zip(
            *(each.encoder.decode(each.outputs, each.size) for each in (work, there)), strict=True
        )
        for mine, other in pairs:
            best = [each.scores.sort(descending=True).values[:20].cpu() for each in (mine, other)]
            if len(best[0]) != len(best[1]) or not torch.allclose(*best, rtol=1e-3, atol=1e-4):
                faults.append('the best scores of decode differ')
    return f'FAILED {stem}: {"; ".join(faults)}' if faults else f'ok {stem}'
