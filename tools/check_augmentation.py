#!/usr/bin/env python3
"""Compare the augmentation of a recipe with official draws.

    python tools/check_augmentation.py CONFIG --golden FILE.npz
    python tools/check_augmentation.py --all FOLDER
    python tools/check_augmentation.py [CONFIG] --hard-images --draws 50000

Runs the recipe's own training pipeline on the fixed images of the file and compares the two sets of
draws by a statistical test (:mod:`tools.augmentation.distance`). ``--all`` compares every file of a
folder with the recipe that it belongs to. ``--hard-images`` draws from small images without
objects, with one object, and with tiny and border objects, and reports pipelines that stop; without
a CONFIG for all full recipes. Exits with 1 if a quantity differs or a pipeline stops.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mmdet_losses  # noqa: F401

# isort: split
from mmengine.config import Config
from mmengine.registry import DefaultScope

from tools.augmentation.distance import Test, compare
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
    args = parser.parse_args(arguments)
    if bool(args.golden) + bool(args.all) + args.hard_images != 1:
        parser.error('give --golden FILE with a CONFIG, --all FOLDER, or --hard-images.')
    if args.golden and not args.config:
        parser.error('--golden needs a CONFIG; give one, or use --all FOLDER.')
    return args


def check(golden: Path, config: Path, args: argparse.Namespace) -> list[Test]:
    """Draws, comparison and table of one file; returns the tests that differ."""
    scene, official = read_scene(golden), read_draws(golden)
    recorder = Recorder(Config.fromfile(config), scene)
    start = time.perf_counter()
    ours = recorder.draws(args.draws, args.seed)
    seconds = time.perf_counter() - start
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        write_draws(args.out / golden.name, scene, ours)
    tests = compare(official, ours)
    bad = [test for test in tests if test.differs]
    official_draws = len(next(iter(official.values())))
    print(f'{golden.stem}: {config.stem}, {official_draws} | {args.draws} draws, {seconds:.0f} s')
    if recorder.changes:
        print(f'  drawn with the options of the file: {"; ".join(recorder.changes)}')
    missing = sorted(set(official) - set(ours))
    if missing:
        print(f'  not recorded: {", ".join(missing)}')
    for test in [*bad, *(test for test in tests if not test.differs)][: max(args.rows, len(bad))]:
        mark = '*' if test.differs else ' '
        print(f' {mark} {test.name:26} {test.distance:6.3f} p {test.p:8.2g}  {test.text}')
    verdict = f'{len(bad)} of {len(tests)} quantities differ' if bad else 'no difference'
    print(f'  {len(tests)} quantities compared: {verdict}')
    return bad


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
    """Compare one file or a folder, or draw from hard images; 1 if something is wrong."""
    args = parse_args(arguments)
    if args.hard_images:
        configs = [Path(args.config)] if args.config else full_recipes()
        with DefaultScope.overwrite_default_scope('mmdet'):
            return int(bool(draw_hard(configs, args.draws, args.seed)))
    files = sorted(args.all.glob('*.npz')) if args.all else [args.golden]
    if not files:
        raise SystemExit(f'{args.all} has no file *.npz; give the folder of official draws.')
    failed = []
    with DefaultScope.overwrite_default_scope('mmdet'):
        for golden in files:
            config = Path(args.config) if args.config else recipe_of(read_scene(golden).name)
            if check(golden, config, args):
                failed.append(golden.stem)
            print(flush=True)
    print(f'{len(files)} files, {len(failed)} with a difference: {", ".join(failed) or "none"}')
    return int(bool(failed))


if __name__ == '__main__':
    sys.exit(main())
