"""Train several configs with several seeds under equal options, and compare them in a report.

Each (config, seed) is one training by ``tools/train.py`` in OUT/NAME/seed_S. A finished training is
not repeated and an interrupted one continues, but only with the same options. OUT then holds
``report.md``, ``report.json`` and ``report.png``: AP over epochs with its spread, the time of a
step, the fraction of it in targets and losses, peak memory, gradient norms and parameters.

A difference of two means is called noise if 0 is in its 95 % interval (Welch's t-test), so one seed
gives no statement about noise. Steps are timed for the report in one process, where the compared
configs take turns (``tools/benchmarks/steps.py``), because the load of the machine changes between
trainings. Several processes can fill one OUT with different configs; the last one writes the report
of all of them. The report names its own commit; earlier trainings can be older.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mmdet_losses import engine

# isort: split
from mmdet_losses.engine.explain import explain
from tools.benchmarks.report import STEPS, Run, read_run, write_report
from tools.benchmarks.runs import TrainingError, measure
from tools.benchmarks.steps import step_times
from tools.datasets.small_configs import data_root, make_data


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'configs', nargs='+', type=Path, help='the first one is compared with the others'
    )
    parser.add_argument(
        '--pairs',
        action='store_true',
        help='compare the first config with the second, the third with the fourth, ...',
    )
    parser.add_argument('--seeds', type=int, default=1, help='number of trainings per config')
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs' / 'compare')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='for all configs'
    )
    parser.add_argument(
        '--metric', default='coco/bbox_mAP', help='validation metric; default: %(default)s'
    )
    args = parser.parse_args(argv)
    names = [config.stem for config in args.configs]
    if len(set(names)) < len(names):
        parser.error(f'two configs have one name ({", ".join(names)}); rename one of the files')
    if args.pairs and len(names) % 2:
        parser.error(f'--pairs needs an even number of configs, not {len(names)}')
    if args.seeds < 1:
        parser.error(f'--seeds is {args.seeds}; give 1 or more')
    return args


def train(config: Path, seed: int, out: Path, options: list[str], metric: str) -> Run:
    """Train a config with one seed unless it is trained; returns the results.

    Raises:
        TrainingError: The training failed, was started with other options, or did not log the
            metric.
    """
    work_dir = out / config.stem / f'seed_{seed}'
    started, finished = work_dir / 'options.json', work_dir / 'usage.json'
    log = work_dir / 'train.log'
    if not started.is_file():
        work_dir.mkdir(parents=True, exist_ok=True)
        started.write_text(json.dumps(options))
    before = json.loads(started.read_text())
    if before != options:
        raise TrainingError(
            f'{work_dir} was started with --cfg-options {" ".join(before) or "(none)"}; use these '
            'options or another --out.'
        )
    if not finished.is_file():
        script = str(ROOT / 'tools' / 'train.py')
        clock = 'default_hooks.head_time.type=mmdet_losses.HeadTimeHook'
        changes = [f'randomness.seed={seed}', clock]
        command = [sys.executable, script, str(config), '--work-dir', str(work_dir), '--resume']
        usage = measure([*command, '--cfg-options', *changes, *options], log)
        if usage.status:
            raise TrainingError(f'training {config} ended with status {usage.status}; see {log}.')
        finished.write_text(json.dumps(usage._asdict()))
    return read_run(work_dir, metric)


def load_all(args: argparse.Namespace) -> list[Path]:
    """The configs, after all of them load and their data pass the checks; makes drawn data sets.

    Raises:
        SystemExit: A config or its data are wrong; nothing is trained.
    """
    elsewhere = any(option.startswith('data_root=') for option in args.cfg_options)
    here = Path.cwd()
    for config in args.configs:
        parser = argparse.ArgumentParser()
        engine.add_config_arguments(parser)
        options = ['--cfg-options', *args.cfg_options] if args.cfg_options else []
        path, cfg = str(config.resolve()), None
        try:
            cfg = engine.load_config(parser.parse_args([path, *options]))
            own = elsewhere or data_root(cfg) != cfg.get('data_root')
            if 'made_by' in cfg and not own:
                make_data(cfg, ROOT / data_root(cfg))
            engine.check_folder(args.out, '--out')
            os.chdir(ROOT)  # the configs name their data relative to it
            engine.check_data(cfg)
        except Exception as error:  # configs raise any kind of error
            known = str(error) if isinstance(error, engine.UsageError) else explain(error, cfg)
            sys.exit(f'error: {config}: {known or error}')
        finally:
            os.chdir(here)
    return args.configs


def train_all(args: argparse.Namespace, out: Path) -> tuple[dict[str, list[Run]], int]:
    """Name -> results of every training, and the number of failed trainings."""
    runs: dict[str, list[Run]] = {}
    configs = load_all(args)
    total, number, failures = len(args.configs) * args.seeds, 0, 0
    for config in configs:
        for seed in range(args.seeds):
            number += 1
            print(f'[{number}/{total}] {config.stem}, seed {seed}', flush=True)
            try:
                run = train(config.resolve(), seed, out, args.cfg_options, args.metric)
            except TrainingError as error:
                failures += 1
                print(f'  error: {error}', file=sys.stderr, flush=True)
                continue
            runs.setdefault(config.stem, []).append(run)
            print(f'  AP {run.final:.3f}, {1000 * run.step:.0f} ms per step', flush=True)
    return runs, failures


def time_steps(
    groups: list[dict[str, list[Run]]], paths: dict[str, Path], options: list[str]
) -> dict[str, list[float]]:
    """Name -> milliseconds of training steps; the configs of a group take turns."""
    steps: dict[str, list[float]] = {}
    here = Path.cwd()
    os.chdir(ROOT)  # the configs name their data relative to it
    try:
        for group in groups:
            print(f'timing {STEPS} steps of {", ".join(group)}', flush=True)
            times = step_times([paths[name] for name in group], options, STEPS)
            steps |= dict(zip(group, times, strict=True))
    finally:
        os.chdir(here)
    return steps


def main(argv: list[str] | None = None) -> int:
    """Train, then report; the others are trained even if one fails."""
    args = parse_args(argv)
    out = args.out.resolve()
    runs, failures = train_all(args, out)
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
        write_report(groups, steps, out, sys.argv[1:] if argv is None else argv, args.metric)
        print(f'report: {engine.from_here(out / "report.md")}')
    return 1 if failures else 0


if __name__ == '__main__':
    with engine.quiet_console():
        status = main()
    sys.exit(status)
