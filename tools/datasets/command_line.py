"""Command line, option checks and progress of the tools that draw data sets."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def check_options(tool: str, checks: dict[str, bool]) -> None:
    """Raise a ``ValueError`` with the first text whose check is false."""
    for text, is_good in checks.items():
        if not is_good:
            raise ValueError(f'{tool} cannot use {text}.')


def add_arguments(parser: argparse.ArgumentParser, default: Any, out: str, objects: str) -> None:
    """Add the options of an image data set.

    Args:
        default: Dataclass with the default of each option.
        out: Default of ``--out``.
        objects: The objects in words, for example 'digits'.
    """
    add = parser.add_argument
    add('--out', type=Path, default=Path(out), help='folder of the data set')
    add('--train', type=int, default=default.train, help='number of training images')
    add('--val', type=int, default=default.val, help='number of validation images')
    add('--size', type=int, nargs='+', default=default.size, metavar='PIXELS',
        help='side of a square image, or height and width')  # fmt: skip
    add('--objects', type=int, nargs=2, default=default.objects, metavar=('MIN', 'MAX'),
        help=f'number of {objects} per image')  # fmt: skip
    add('--scale', type=int, nargs=2, default=default.scale, metavar=('MIN', 'MAX'),
        help=f'height of the {objects} in pixels')  # fmt: skip
    add('--empty-fraction', type=float, default=default.empty_fraction,
        help=f'fraction of images without {objects}')  # fmt: skip
    add('--max-overlap', type=float, default=default.max_overlap,
        help='greatest overlap of two boxes, as a fraction of the smaller one')  # fmt: skip
    add('--seed', type=int, default=default.seed, help='the same seed gives the same files')


def read_arguments(parser: argparse.ArgumentParser, args: list[str] | None) -> argparse.Namespace:
    """Parse the command line; sizes and ranges become tuples."""
    parsed = parser.parse_args(args)
    if len(parsed.size) > 2:
        parser.error(f'--size takes one side, or height and width, not {len(parsed.size)} numbers')
    parsed.size = (parsed.size[0], parsed.size[-1])
    parsed.objects, parsed.scale = tuple(parsed.objects), tuple(parsed.scale)
    return parsed


def run(make: Callable[..., Path], arguments: argparse.Namespace) -> None:
    """Make the data set; a wrong option or a file error prints one message and exits with 1."""
    try:
        make(**vars(arguments))
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')


def show_progress(split: str, done: int, count: int, start: float, items: str) -> None:
    """Print the progress of a split now and then.

    Args:
        start: Time of ``time.monotonic`` at the start.
        items: What is counted, for example 'images'.
    """
    step = max(1, count // (100 if sys.stdout.isatty() else 4))
    if done % step and done != count:
        return
    left = (time.monotonic() - start) / done * (count - done)
    print(
        f'{split}: {done} of {count} {items}, {left:.0f} s left',
        end='\r' if sys.stdout.isatty() and done < count else '\n',
        flush=True,
    )
