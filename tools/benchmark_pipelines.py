#!/usr/bin/env python3
"""Compare the training pipelines' images per second with MMDetection's.

    python tools/benchmark_pipelines.py
    python tools/benchmark_pipelines.py --profile YOLOv3-608

Reads generated JPEG files of 640 x 480 pixels on one core and measures processor time. Our pipeline
and MMDetection's nearest take turns, so that other load affects both; the ratio is the median of
the ratios of the rounds. The column ``plain`` is a plain loader that computes the image in the
order of the official code, without boxes (:mod:`tools.benchmarks.plain_loaders`). ``--profile``
prints the milliseconds of each transform instead.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import mmdet_losses  # noqa: F401

# isort: split
import cv2
import torch
from mmengine.registry import DefaultScope

from tools.benchmarks.pipelines import (
    CASES,
    decoding_rate,
    measure,
    profile,
    sources,
    write_images,
)


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--only', default=','.join(CASES), help='pipelines, separated by commas')
    parser.add_argument('--profile', metavar='NAME', help='time the transforms of one pipeline')
    parser.add_argument('--images', type=int, default=16, help='number of files')
    parser.add_argument('--items', type=int, default=8, help='items of each pipeline per round')
    parser.add_argument('--rounds', type=int, default=9)
    args = parser.parse_args(arguments)
    for name in [args.profile] if args.profile else args.only.split(','):
        if name not in CASES:
            parser.error(f'{name!r} is no pipeline; choose from {", ".join(CASES)}.')
    return args


def print_profile(name: str, folder: Path, items: int) -> None:
    """Milliseconds of each transform, ours and MMDetection's."""
    for owner, source in zip(('ours', 'MMDetection'), sources(CASES[name], folder), strict=True):
        times = profile(source, items)
        print(f'{name}, {owner}: {sum(times.values()):.2f} ms per item')
        for step, spent in sorted(times.items(), key=lambda each: -each[1]):
            print(f'  {spent:7.2f}  {step}')


def print_table(names: list[str], folder: Path, args: argparse.Namespace) -> None:
    """Images per second of the pipelines."""
    size = sum(path.stat().st_size for path in folder.glob('*.jpg')) / args.images / 1e3
    rate = decoding_rate(folder, args.rounds)
    print(f'{args.images} JPEG files of {size:.0f} kB; decoding alone: {rate:.0f} per second')
    columns = f'{"ours":>6} {"MMDetection":>12} {"plain":>6} {"ratio":>7}  quartiles'
    print(f'{"images per second":18} {columns}')
    for name in names:
        rates = measure(name, folder, args.items, args.rounds)
        plain = '-' if rates.plain is None else f'{rates.plain:.0f}'
        goal = CASES[name].goal
        verdict = f'goal {goal:g}x {"ok" if rates.ratio >= goal else "MISSED"}'
        print(
            f'{name:18} {rates.ours:6.0f} {rates.theirs:12.0f} {plain:>6} {rates.ratio:6.2f}x  '
            f'{rates.low:.2f} to {rates.high:.2f}  {verdict}',
            flush=True,
        )


def main(arguments: list[str] | None = None) -> int:
    """Print the table, or the profile of one pipeline."""
    args = parse_args(arguments)
    warnings.filterwarnings('ignore')
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    print(f'OpenCV {cv2.__version__}, Python {platform.python_version()}, {platform.machine()}')
    with (
        tempfile.TemporaryDirectory() as folder,
        DefaultScope.overwrite_default_scope('mmdet'),
    ):
        write_images(Path(folder), args.images)
        if args.profile:
            print_profile(args.profile, Path(folder), args.items * args.rounds)
        else:
            print_table(args.only.split(','), Path(folder), args)
    return 0


if __name__ == '__main__':
    sys.exit(main())
