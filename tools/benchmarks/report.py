"""Comparison of trainings: reads their logs, and writes a report as Markdown, JSON and plot."""

from __future__ import annotations

import json
import os
import statistics
import textwrap
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

from mmdet_losses.compat import trust_engine_checkpoints
from tools.benchmarks.runs import TrainingError, git_commit

STEPS = 20
"""Number of steps that are timed per config."""
# Okabe and Ito's colours
COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')


class Run(NamedTuple):
    """Results of one training."""

    curve: dict[int, float]
    """Epoch -> AP."""
    step: float
    """Median seconds per step as logged, with data loading, hooks and other load."""
    share: float | None
    """Fraction of the step in encoding and losses, forward only."""
    grad_norm: float | None
    """Median over the training; ``None`` if the config does not clip gradients."""
    memory: float
    """Peak MiB of the training process."""
    parameters: int

    @property
    def final(self) -> float:
        """AP at the end."""
        return self.curve[max(self.curve)]


def read_run(work_dir: Path, metric: str) -> Run:
    """Read the logs of a finished training; ``metric`` becomes the curve.

    Raises:
        TrainingError: No validation is logged, or none with the metric.
    """
    lines = []
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        lines += [json.loads(line) for line in path.read_text().splitlines()]
    curve = {line['step']: line[metric] for line in lines if metric in line}
    logged = sorted({key for line in lines if 'loss' not in line for key in line if '/' in key})
    if not curve and logged:
        raise TrainingError(
            f'{work_dir} has no {metric} in its logs; choose --metric from {", ".join(logged)}. '
            'Finished trainings are not repeated.'
        )
    if not curve:
        raise TrainingError(
            f'no validation is logged in {work_dir}; remove the folder and train again.'
        )
    steps = [line for line in lines if 'loss' in line]
    norms = [line['grad_norm'] for line in steps if 'grad_norm' in line]
    shares = [line['head_time'] / line['time'] for line in steps if 'head_time' in line]
    return Run(
        curve=curve,
        step=statistics.median(line['time'] for line in steps),
        share=statistics.median(shares) if shares else None,
        grad_norm=statistics.median(norms) if norms else None,
        memory=json.loads((work_dir / 'usage.json').read_text())['memory'],
        parameters=_count_parameters(work_dir),
    )


def _count_parameters(work_dir: Path) -> int:
    """Number of values in the last checkpoint, with the running statistics."""
    trust_engine_checkpoints()
    checkpoint = (work_dir / 'last_checkpoint').read_text().strip()
    state = torch.load(checkpoint, map_location='cpu', weights_only=True)['state_dict']
    return sum(tensor.numel() for tensor in state.values())


def verdict(ours: list[float], theirs: list[float]) -> str:
    """Difference of the means in words; noise if 0 is in its 95 % interval (Welch's t-test)."""
    difference = statistics.mean(ours) - statistics.mean(theirs)
    if max([*ours, *theirs]) == 0:
        return 'nothing was learned'
    if min(len(ours), len(theirs)) < 2:
        return f'{difference:+.3f}, one seed: the noise is unknown'
    if len(set(ours)) == len(set(theirs)) == 1:
        return f'{difference:+.3f}, equal for every seed'
    interval = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    words = 'within noise' if interval.low <= 0 <= interval.high else 'beyond noise'
    return (
        f'{difference:+.3f}, {words} (95 % interval: {interval.low:+.3f} to {interval.high:+.3f})'
    )


def spread(values: list[float]) -> str:
    """Mean, and the standard deviation if there are several values."""
    mean = f'{statistics.mean(values):.3f}'
    return f'{mean} ± {statistics.stdev(values):.3f}' if len(values) > 1 else mean


def write_report(
    groups: list[dict[str, list[Run]]],
    steps: dict[str, list[float]],
    out: Path,
    arguments: list[str],
    metric: str,
) -> None:
    """Write ``report.md``, ``report.json`` and ``report.png``.

    Args:
        groups: Name -> runs, for each group; the first config is compared with the others of its
            group.
        steps: Name -> milliseconds of the timed steps.
        out: Folder of the report.
        arguments: Those of the command line.
        metric: Name of the metric that the report calls AP.
    """
    runs = {name: each for group in groups for name, each in group.items()}
    lines = [*_header(runs, arguments, metric), *_table(runs, steps), '']
    for first, *others in groups:
        for name in others:
            finals = [[run.final for run in runs[key]] for key in (first, name)]
            ratio = statistics.median(steps[first]) / statistics.median(steps[name])
            lines.append(
                f'- AP of {first} minus {name}: {verdict(*finals)}; its step takes '
                f'{ratio:.2f} of the time.'
            )
    (out / 'report.md').write_text('\n'.join([*lines, '', '![AP](report.png)', '']))
    content = {
        name: dict(step_times=steps[name], runs=[run._asdict() for run in each])
        for name, each in runs.items()
    }
    (out / 'report.json').write_text(json.dumps(content, indent=2) + '\n')
    plot_curves(groups, out / 'report.png')


def _header(runs: dict[str, list[Run]], arguments: list[str], metric: str) -> list[str]:
    seeds = sorted({len(each) for each in runs.values()})
    return [
        '# Comparison',
        '',
        '```sh',
        _command(arguments),
        '```',
        '',
        f'Reported at commit {git_commit()}, torch {torch.__version__}, {os.cpu_count()} cores, '
        f'{torch.get_num_threads()} thread(s); '
        f'{" or ".join(map(str, seeds))} seed(s) each; {metric} at the end of training, '
        'mean ± standard deviation. Step: median time of forward, targets, losses, backward and '
        f'update over {STEPS} batches; the compared configs take turns in one process. Targets + '
        'losses: their forward time, as a fraction of the whole step as logged in training.',
        '',
    ]


def _command(arguments: list[str]) -> str:
    """The command line, in lines that fit a page."""
    words = ' '.join(['python tools/compare_baselines.py', *arguments])
    lines = textwrap.wrap(words, 92, break_long_words=False, break_on_hyphens=False)
    return ' \\\n    '.join(lines)


def _table(runs: dict[str, list[Run]], steps: dict[str, list[float]]) -> list[str]:
    lines = [
        '| config | AP | step, ms | targets + losses | memory, MiB | gradient norm | parameters |',
        '|---|---|---|---|---|---|---|',
    ]
    for name, each in runs.items():
        shares = [run.share for run in each if run.share is not None]
        norms = [run.grad_norm for run in each if run.grad_norm is not None]
        lines.append(
            f'| {name} | {spread([run.final for run in each])} '
            f'| {statistics.median(steps[name]):.0f} '
            f'| {f"{100 * statistics.mean(shares):.0f} %" if shares else ""} '
            f'| {max(run.memory for run in each):.0f} '
            f'| {f"{statistics.mean(norms):.2f}" if norms else ""} | {each[0].parameters} |'
        )
    return lines


def plot_curves(groups: list[dict[str, list[Run]]], path: Path) -> None:
    """Plot AP over epochs, one panel per group: the mean, and the range over the seeds."""
    columns = min(len(groups), 3)
    rows = -(-len(groups) // columns)
    width = 7 if columns == 1 else 4.4 * columns
    figure = Figure(figsize=(width, 4.2 * rows), layout='constrained')
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat[len(groups) :]:
        axes.set_axis_off()
    for axes, runs in zip(panels.flat, groups, strict=False):
        for color, (name, each) in zip(COLORS * len(runs), runs.items(), strict=False):
            epochs = sorted(set().union(*(run.curve for run in each)))
            points = [[run.curve[epoch] for run in each if epoch in run.curve] for epoch in epochs]
            axes.plot(epochs, [statistics.mean(p) for p in points], 'o-', color=color, label=name)
            lowest, highest = list(map(min, points)), list(map(max, points))
            axes.fill_between(epochs, lowest, highest, color=color, alpha=0.2)
        axes.set(xlabel='epoch', ylabel='AP on the validation split')
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize=8, loc='lower right')
    figure.savefig(path, dpi=110)
