"""Train several configs under one budget with several seeds, and report them beside each other.

Every (config, seed) is a training of its own by ``tools/train.py``, in OUT/NAME/seed_S; what is
finished is not repeated, what was interrupted continues, and neither under other options.
Afterwards OUT holds ``report.md``, ``report.json`` and ``report.png``: AP over epochs with its
spread, the time of a step, the share of it spent on targets and losses, peak memory, gradient norms
and sizes. A difference of two means is called noise while it lies in its 95 % interval (Welch's t);
one seed alone says nothing about noise. Steps are timed for the report, in one process where the
configs that are compared take turns (``tools/benchmarks/steps.py``), because trainings at different
hours find different machines. Several processes may fill one OUT, each with configs of its own; the
report is that of the last, which finds every training finished. The report's commit is its own:
trainings that were found finished may be older.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import matplotlib
import torch

from mmdet_losses.compat import trust_engine_checkpoints

# isort: split
from mmengine.config import Config
from scipy import stats

matplotlib.use('agg')
from matplotlib import pyplot as plt

from tools.benchmarks.steps import step_times
from tools.makers import make_data
from tools.zoo import ZooError, data_root, git_commit, measure

STEPS = 20  # timed of every config
# Okabe and Ito's colours
COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')


class Run(NamedTuple):
    """One training."""

    curve: dict[int, float]
    """Epoch -> AP."""
    step: float
    """Median seconds a step, as logged: with its data, its hooks and whatever else ran."""
    share: float | None
    """Part of the step in encoding and losses, forward."""
    grad_norm: float | None
    """Median over the training; None where the config does not clip gradients."""
    memory: float
    """Peak MiB of the training process."""
    parameters: int

    @property
    def final(self) -> float:
        """AP at the end."""
        return self.curve[max(self.curve)]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('configs', nargs='+', type=Path, help='the first is compared with the rest')
    parser.add_argument(
        '--pairs', action='store_true', help='compare the first with the second, the third with ...'
    )
    parser.add_argument('--seeds', type=int, default=1, help='trainings of each config')
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs' / 'compare')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='for all configs alike'
    )
    parser.add_argument(
        '--metric', default='coco/bbox_mAP', help='of the validation; default: %(default)s'
    )
    args = parser.parse_args(argv)
    names = [config.stem for config in args.configs]
    if len(set(names)) < len(names):
        parser.error(f'the configs {", ".join(names)} share a name; give each file its own')
    if args.pairs and len(names) % 2:
        parser.error(f'--pairs with {len(names)} configs leaves one alone; give an even number')
    if args.seeds < 1:
        parser.error(f'--seeds {args.seeds}: give at least 1')
    return args


def train(config: Path, seed: int, out: Path, options: list[str], metric: str) -> Run:
    """Train one config with one seed, or find it trained.

    Raises:
        ZooError: the training failed; its log says why. Or it was begun with other options, or
            never logged the metric.
    """
    work_dir = out / config.stem / f'seed_{seed}'
    begun, finished = work_dir / 'options.json', work_dir / 'usage.json'
    log = work_dir / 'train.log'
    if not begun.is_file():
        work_dir.mkdir(parents=True, exist_ok=True)
        begun.write_text(json.dumps(options))
    before = json.loads(begun.read_text())
    if before != options:
        raise ZooError(
            f'{work_dir} was begun with --cfg-options {" ".join(before) or "(none)"}, which is '
            'another budget; give another --out.'
        )
    if not finished.is_file():
        script = str(ROOT / 'tools' / 'train.py')
        clock = 'default_hooks.head_time.type=mmdet_losses.HeadTimeHook'
        changes = [f'randomness.seed={seed}', clock]
        command = [sys.executable, script, str(config), '--work-dir', str(work_dir), '--resume']
        usage = measure([*command, '--cfg-options', *changes, *options], log)
        if usage.status:
            raise ZooError(f'training {config} ended with status {usage.status}: see {log}.')
        finished.write_text(json.dumps(usage._asdict()))
    return read(work_dir, metric)


def read(work_dir: Path, metric: str) -> Run:
    """What the logs of a finished training say; ``metric`` becomes the curve.

    Raises:
        ZooError: no validation is among them, or none with the metric.
    """
    lines = []
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        lines += [json.loads(line) for line in path.read_text().splitlines()]
    curve = {line['step']: line[metric] for line in lines if metric in line}
    logged = sorted({key for line in lines if 'loss' not in line for key in line if '/' in key})
    if not curve and logged:
        raise ZooError(
            f'no {metric} is logged in {work_dir}: name one of {", ".join(logged)} with --metric; '
            'what is trained is not trained again.'
        )
    if not curve:
        raise ZooError(f'no validation is logged in {work_dir}; remove the folder and train again.')
    steps = [line for line in lines if 'loss' in line]
    norms = [line['grad_norm'] for line in steps if 'grad_norm' in line]
    shares = [line['head_time'] / line['time'] for line in steps if 'head_time' in line]
    return Run(
        curve=curve,
        step=statistics.median(line['time'] for line in steps),
        share=statistics.median(shares) if shares else None,
        grad_norm=statistics.median(norms) if norms else None,
        memory=json.loads((work_dir / 'usage.json').read_text())['memory'],
        parameters=count_parameters(work_dir),
    )


def count_parameters(work_dir: Path) -> int:
    """Numbers in the state of the last checkpoint, running statistics included."""
    trust_engine_checkpoints()
    checkpoint = (work_dir / 'last_checkpoint').read_text().strip()
    state = torch.load(checkpoint, map_location='cpu', weights_only=True)['state_dict']
    return sum(tensor.numel() for tensor in state.values())


def verdict(ours: list[float], theirs: list[float]) -> str:
    """How the means compare, in words."""
    difference = statistics.mean(ours) - statistics.mean(theirs)
    if min(len(ours), len(theirs)) < 2:
        return f'{difference:+.3f}, one seed: no statement about noise'
    if len(set(ours)) == len(set(theirs)) == 1:
        return f'{difference:+.3f}, the same with every seed'
    interval = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    words = 'within noise' if interval.low <= 0 <= interval.high else 'beyond noise'
    return (
        f'{difference:+.3f}, {words} (95 % interval: {interval.low:+.3f} to {interval.high:+.3f})'
    )


def spread(values: list[float]) -> str:
    """Mean, and the standard deviation where there is one."""
    mean = f'{statistics.mean(values):.3f}'
    return f'{mean} ± {statistics.stdev(values):.3f}' if len(values) > 1 else mean


def time_steps(
    groups: list[dict[str, list[Run]]], paths: dict[str, Path], options: list[str]
) -> dict[str, list[float]]:
    """Name -> milliseconds of training steps; the configs of a group take turns."""
    steps: dict[str, list[float]] = {}
    here = Path.cwd()
    os.chdir(ROOT)  # where the trainings ran
    try:
        for group in groups:
            print(f'timing {STEPS} steps of {", ".join(group)}', flush=True)
            times = step_times([paths[name] for name in group], options, STEPS)
            steps |= dict(zip(group, times, strict=True))
    finally:
        os.chdir(here)
    return steps


def report(
    groups: list[dict[str, list[Run]]],
    steps: dict[str, list[float]],
    out: Path,
    arguments: list[str],
    metric: str,
) -> None:
    """Write the Markdown, the JSON and the picture; a group's first is compared with its others.

    Args:
        groups: For every group, name -> trainings.
        steps: Name -> milliseconds of the steps that were timed.
        out: Folder to write to.
        arguments: Those of the command line.
        metric: Name of what is called AP.
    """
    runs = {name: each for group in groups for name, each in group.items()}
    seeds = sorted({len(each) for each in runs.values()})
    lines = [
        '# Comparison',
        '',
        '```sh',
        f'python tools/compare_baselines.py {" ".join(arguments)}',
        '```',
        '',
        f'Reported at commit {git_commit()}, torch {torch.__version__}, {os.cpu_count()} cores, '
        f'{torch.get_num_threads()} thread(s); '
        f'{" or ".join(map(str, seeds))} seed(s) each; {metric} at the end of training, '
        'mean ± standard deviation. Step: median of forward, targets, losses, backward and update, '
        f'over {STEPS} batches of each, the compared configs taking turns in one process. Targets '
        '+ losses: their forward time, of the whole step as logged in training.',
        '',
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
    lines.append('')
    for first, *others in groups:
        for name in others:
            finals = [[run.final for run in runs[key]] for key in (first, name)]
            ratio = statistics.median(steps[first]) / statistics.median(steps[name])
            lines.append(
                f'- AP of {first} minus {name}: {verdict(*finals)}; its step takes '
                f'{ratio:.2f} of the time.'
            )
    (out / 'report.md').write_text('\n'.join([*lines, '', '![AP](report.png)', '']))
    told = {
        name: dict(step_times=steps[name], runs=[run._asdict() for run in each])
        for name, each in runs.items()
    }
    (out / 'report.json').write_text(json.dumps(told, indent=2) + '\n')
    draw(groups, out / 'report.png')


def draw(groups: list[dict[str, list[Run]]], path: Path) -> None:
    """AP over epochs, a panel for each group: the mean, and the range over the seeds."""
    columns = min(len(groups), 3)
    rows = -(-len(groups) // columns)
    width = 7 if columns == 1 else 4.4 * columns
    figure, panels = plt.subplots(
        rows, columns, figsize=(width, 4.2 * rows), layout='constrained', squeeze=False
    )
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
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(fontsize=8, loc='lower right')
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(argv: list[str] | None = None) -> int:
    """Train what is missing, then report; one failure does not lose the others."""
    args = parse_args(argv)
    out = args.out.resolve()
    runs: dict[str, list[Run]] = {}
    total, number, failures = len(args.configs) * args.seeds, 0, 0
    elsewhere = any(option.startswith('data_root=') for option in args.cfg_options)
    for config in args.configs:
        cfg = Config.fromfile(config)
        own = elsewhere or data_root(cfg) != cfg.get('data_root')
        if 'made_by' in cfg and not own:
            make_data(cfg, ROOT / data_root(cfg))
        for seed in range(args.seeds):
            number += 1
            print(f'[{number}/{total}] {config.stem}, seed {seed}', flush=True)
            try:
                run = train(config.resolve(), seed, out, args.cfg_options, args.metric)
            except ZooError as error:
                failures += 1
                print(f'  error: {error}', file=sys.stderr, flush=True)
                continue
            runs.setdefault(config.stem, []).append(run)
            print(f'  AP {run.final:.3f}, {1000 * run.step:.0f} ms a step', flush=True)
    size = 2 if args.pairs else len(args.configs)
    names = [config.stem for config in args.configs]
    groups = [
        {name: runs[name] for name in names[start : start + size] if name in runs}
        for start in range(0, len(names), size)
    ]
    if runs:
        groups = [group for group in groups if group]
        paths = {config.stem: config.resolve() for config in args.configs}
        steps = time_steps(groups, paths, args.cfg_options)
        report(groups, steps, out, sys.argv[1:] if argv is None else argv, args.metric)
        print(f'The report is {out / "report.md"}.')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
