#!/usr/bin/env python3
"""Compare the augmentation of a recipe with official draws.

    python tools/check_augmentation.py CONFIG --golden FILE.npz
    python tools/check_augmentation.py --all FOLDER
    python tools/check_augmentation.py [CONFIG] --hard-images --draws 50000

Runs the recipe's own training pipeline on the fixed images of the file and compares the two sets of
draws by a statistical test (:mod:`tools.augmentation.distance`). ``--all`` compares every file of a
folder with the recipe that it belongs to, several files at a time. ``--hard-images`` draws from
small images without objects, with one object, and with tiny and border objects, and reports
pipelines that stop; without a CONFIG for all full recipes. Exits with 1 if a quantity differs or a
pipeline stops.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mmdet_losses  # noqa: F401

# isort: split
import cv2
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from tools.augmentation.distance import ALPHA, Test, compare
from tools.augmentation.hard_images import SmallData, draw_hard_images
from tools.augmentation.layout import read_draws, read_scene, write_draws
from tools.augmentation.recipes import recipe_of
from tools.augmentation.record import Recorder
from tools.datasets.small_configs import full_recipes


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', nargs='?', help='recipe; with --all: the one of each file')
    parser.add_argument('--golden', type=Path, help='file of official draws')
    parser.add_argument('--all', type=Path, metavar='FOLDER', help='every file of a folder')
    parser.add_argument('--hard-images', action='store_true', help='look for pipelines that stop')
    parser.add_argument('--draws', type=int, default=2000)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, metavar='FOLDER', help='write our draws there')
    parser.add_argument('--rows', type=int, default=6, help='rows to print per file')
    cores = min(os.cpu_count() or 1, 8)
    parser.add_argument('--workers', type=int, default=cores, help='files that run at a time')
    args = parser.parse_args(arguments)
    if bool(args.golden) + bool(args.all) + args.hard_images != 1:
        parser.error('give --golden FILE with a CONFIG, --all FOLDER, or --hard-images.')
    if args.golden and not args.config:
        parser.error('--golden needs a CONFIG; give one, or use --all FOLDER.')
    return args


class Result(NamedTuple):
    """Comparison of one file."""

    name: str
    quantities: int
    failed: int
    """Quantities that differ; 1 if the pipeline stops."""
    text: str
    """Table of the largest differences."""


def check(golden: Path, config: str | None, args: argparse.Namespace) -> Result:
    """Draws and comparison of one file."""
    start = time.perf_counter()
    with DefaultScope.overwrite_default_scope('mmdet'):
        try:
            return _check(golden, config, args, start)
        except Exception as error:  # a pipeline that stops is a failed file, the others still run
            text = f'{golden.stem}: STOPPED: {type(error).__name__}: {error}'
            return Result(golden.stem, 0, 1, text)


def _check(golden: Path, config: str | None, args: argparse.Namespace, start: float) -> Result:
    scene, official = read_scene(golden), read_draws(golden)
    recipe = Path(config) if config else recipe_of(scene.name)
    recorder = Recorder(Config.fromfile(recipe), scene)
    ours = recorder.draws(args.draws, args.seed)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        write_draws(args.out / golden.name, scene, ours)
    tests = compare(official, ours)
    bad = [test for test in tests if test.differs]
    counts = f'{len(next(iter(official.values())))} | {args.draws} draws'
    lines = [f'{golden.stem}: {recipe.stem}, {counts}, {time.perf_counter() - start:.0f} s']
    if recorder.changes:
        lines.append(f'  drawn with the options of the file: {"; ".join(recorder.changes)}')
    missing = sorted(set(official) - set(ours))
    if missing:
        lines.append(f'  not recorded: {", ".join(missing)}')
    rest = [test for test in tests if not test.differs]
    lines += [row(test) for test in [*bad, *rest][: max(args.rows, len(bad))]]
    verdict = f'{len(bad)} of {len(tests)} quantities differ' if bad else 'no difference'
    lines.append(f'  {len(tests)} quantities compared: {verdict}')
    return Result(golden.stem, len(tests), len(bad), '\n'.join(lines))


def row(test: Test) -> str:
    """One line of the table of a file."""
    mark = '*' if test.differs else ' '
    return f' {mark} {test.name:26} {test.distance:6.3f} p {test.p:8.2g}  {test.text}'


def single_thread() -> None:
    """One thread per process: the processes would compete for the cores."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def check_all(files: Sequence[Path], args: argparse.Namespace) -> Iterator[Result]:
    """Results of the files, each as soon as it is known."""
    workers = min(args.workers, len(files))
    if workers <= 1:
        single_thread()
        yield from (check(golden, args.config, args) for golden in files)
        return
    with ProcessPoolExecutor(workers, get_context('spawn'), single_thread) as pool:
        jobs = [pool.submit(check, golden, args.config, args) for golden in files]
        yield from (job.result() for job in as_completed(jobs))


def compare_files(args: argparse.Namespace) -> int:
    """Compare one file or all files of a folder; the number of files that differ."""
    files = sorted(args.all.glob('*.npz')) if args.all else [args.golden]
    if not files:
        raise SystemExit(f'{args.all} has no file *.npz; give the folder of official draws.')
    start, results = time.perf_counter(), []
    for result in check_all(files, args):
        results.append(result)
        print(f'[{len(results)}/{len(files)}] {result.text}\n', flush=True)
    failed = sorted(result.name for result in results if result.failed)
    print(
        f'A file of equal pipelines differs by chance with a probability of about {ALPHA:g}; one '
        f'of {len(files)} with {1 - (1 - ALPHA) ** len(files):.2g}.'
    )
    print(
        f'{len(files)} files, {sum(result.quantities for result in results)} quantities, '
        f'{sum(result.failed for result in results)} failed, {time.perf_counter() - start:.0f} s; '
        f'files with a difference: {", ".join(failed) or "none"}'
    )
    return len(failed)


def draw_hard(configs: list[Path], count: int, seed: int) -> list[str]:
    """Draws of the recipes from hard images; names of the recipes that stop."""
    results: dict[str, str] = {}
    stopped = []
    for config in configs:
        data = SmallData(Config.fromfile(config))
        shown = results.get(data.key)
        if shown is None:
            try:
                drawn = draw_hard_images(data, count, seed)
                shown = f'{count} draws, {drawn.empty} without objects, {drawn.seconds:.0f} s'
            except Exception as error:
                shown = f'STOPPED: {type(error).__name__}: {error}'
            results[data.key] = shown
        if shown.startswith('STOPPED'):
            stopped.append(config.stem)
        print(f'{config.stem}: {shown}', flush=True)
    print(f'{len(configs)} recipes, {len(results)} different pipelines, {len(stopped)} stopped')
    return stopped


def main(arguments: list[str] | None = None) -> int:
    """Compare one file or a folder, or draw from hard images; 1 if something differs or stops."""
    args = parse_args(arguments)
    if args.hard_images:
        configs = [Path(args.config)] if args.config else full_recipes()
        with DefaultScope.overwrite_default_scope('mmdet'):
            return int(bool(draw_hard(configs, args.draws, args.seed)))
    return int(compare_files(args) > 0)


if __name__ == '__main__':
    sys.exit(main())
