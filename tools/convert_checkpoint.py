"""Convert a checkpoint of a detector's official code into one of this package.

Every key of SRC is claimed by a rule of FAMILY, every key of our network is filled, every shape is
equal; otherwise nothing is written, the keys that do not fit are listed, and the exit code is 1.
The result holds ``state_dict`` and ``meta`` as plain tensors, strings and numbers, under the names
of our full detector.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import os
import sys
from collections import Counter
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mmdet_losses
from mmdet_losses.core.checkpoint import Conversion, Family, convert


def families() -> dict[str, Family]:
    """Name on the command line -> family, from every ``detectors/<family>/checkpoints.py``."""
    found: dict[str, Family] = {}
    for folder in mmdet_losses.detectors.__all__:
        module = importlib.import_module(f'mmdet_losses.detectors.{folder}.checkpoints')
        found |= module.FAMILIES
    return found


def parse_args(known: dict[str, Family], argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    lines = [f'  {name} {describe(family)}'.rstrip() for name, family in known.items()]
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='families and their options:\n' + '\n'.join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('family', metavar='FAMILY', choices=known, help='see below')
    parser.add_argument('src', metavar='SRC', type=Path, help='the official file')
    parser.add_argument('dst', metavar='DST', type=Path, help='the file to write')
    parser.add_argument(
        '--options',
        nargs='+',
        default=[],
        metavar='NAME=VALUE',
        help='arguments of our network where it differs from the default below',
    )
    parser.add_argument(
        '--allow-class-layers',
        action='store_true',
        help='leave out the layers whose shape differs with the number of classes',
    )
    parser.add_argument(
        '--partial',
        action='store_true',
        help="SRC is darknet's file of the first layers (yolov4.conv.137, darknet53.conv.74, ...); "
        'the layers after its end are left out',
    )
    parser.add_argument('--force', action='store_true', help='replace DST if it exists')
    return parser.parse_args(argv)


def describe(family: Family) -> str:
    """The family's options and their defaults, as they are written on the command line."""
    parameters = inspect.signature(family.build).parameters.values()
    return ' '.join(f'{each.name}={each.default}' for each in parameters)


def parse_options(family: Family, words: list[str]) -> dict:
    """``NAME=VALUE`` words to arguments of ``family.build``.

    Raises:
        ValueError: a word without ``=``, or an option that the family has not.
    """
    parameters = inspect.signature(family.build).parameters
    options = {}
    for word in words:
        name, equals, text = word.partition('=')
        if not equals or name not in parameters:
            raise ValueError(
                f'--options {word} is no option of this family; it has: {describe(family)}.'
            )
        try:
            options[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            options[name] = text
    return options


def check_paths(src: Path, dst: Path, force: bool) -> None:
    """Refuse to lose a file.

    Raises:
        ValueError: DST exists and ``force`` is off, is a folder, or is SRC.
    """
    if dst.is_dir():
        raise ValueError(f'{dst} is a folder; give the name of a file in it.')
    if dst.exists() and src.exists() and dst.samefile(src):
        raise ValueError(f'{dst} is the file to convert; write to another one.')
    if dst.exists() and not force:
        raise ValueError(f'{dst} exists; choose another name, or replace it with --force.')


def write(conversion: Conversion, dst: Path, meta: dict) -> None:
    """Write under a temporary name first, so that DST is never half a checkpoint."""
    dst.parent.mkdir(parents=True, exist_ok=True)
    partial = dst.with_name(f'{dst.name}.partial')
    state = {key: tensor.detach().clone() for key, tensor in conversion.state_dict.items()}
    torch.save({'meta': meta, 'state_dict': state}, partial)
    os.replace(partial, dst)


def main(argv: list[str] | None = None) -> int:
    """Convert; returns the exit code."""
    known = families()
    args = parse_args(known, argv)
    family = known[args.family]
    try:
        check_paths(args.src, args.dst, args.force)
        options = parse_options(family, args.options)
        network = family.build(**options)
        source = family.load(args.src, network, args.partial)
        conversion = convert(
            source, network.state_dict(), family.key_map, args.allow_class_layers, args.partial
        )
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    meta = {
        'family': args.family,
        'options': options,
        'source': args.src.name,
        'mmdet_losses_version': mmdet_losses.__version__,
    }
    write(conversion, args.dst, meta)
    for reason, count in Counter(conversion.ignored.values()).items():
        print(f'left out {count} keys: {reason}')
    for key in conversion.class_layers:
        print(f'left out {key}: its number of classes differs')
    if conversion.missing:
        parts = ', '.join(dict.fromkeys(key.partition('.')[0] for key in conversion.missing))
        print(f'left out {len(conversion.missing)} keys of {parts}: SRC ends before them')
    numbers = sum(tensor.numel() for tensor in conversion.state_dict.values())
    print(f'{args.dst}: {len(conversion.state_dict)} tensors, {numbers:,} numbers')
    return 0


if __name__ == '__main__':
    sys.exit(main())
