"""Compare this package with golden numbers of the official codes, and print a table.

Reads every golden file below DIR that a check understands (by the file's name, the longest known
beginning wins) and every network folder (one with a ``meta.json``). Exits with 1 if anything
differs by more than its tolerance.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.parity.rows import Row, failure

FAMILIES = ('corner', 'center', 'anchor', 'darknet', 'darknet_detect')
NETWORKS = ('models', 'models_anchor')
KINDS = ('losses', 'targets', 'decode', 'models', 'trajectories')
WORDS = {
    'trajectories': ('train_',),
    'models': ('cfg_forward',),
    'decode': ('decode', 'detect', 'tracker', 'prehm', 'real_'),
    'losses': ('loss', 'multibox', 'iou_'),
}


def file_checks() -> dict[str, Callable[[Path], list[Row]]]:
    """Beginning of a file's name to its check, from every family."""
    checks: dict[str, Callable[[Path], list[Row]]] = {}
    for family in FAMILIES:
        checks.update(importlib.import_module(f'tools.parity.{family}').CHECKS)
    return checks


def kind_of(name: str) -> str:
    """What a golden file is about, from its name: one of :data:`KINDS`."""
    for kind, words in WORDS.items():
        if any(word in name for word in words):
            return kind
    return 'targets'


def kind_of_folder(folder: Path) -> str:
    """What a golden folder is about: 'trajectories' or 'models'."""
    return 'trajectories' if (folder / 'names.json').exists() else 'models'


def check_folder(folder: Path, precisions: tuple[str, ...]) -> list[Row] | None:
    """The rows of a folder of training steps or of a network; None where there is no check."""
    if kind_of_folder(folder) == 'models':
        return check_network(folder)
    return importlib.import_module('tools.parity.trajectories').check_trajectory(folder, precisions)


def check_network(folder: Path) -> list[Row] | None:
    """The rows of a network folder; None where no family knows the network."""
    for module in NETWORKS:
        rows = importlib.import_module(f'tools.parity.{module}').check_model(folder)
        if rows is not None:
            return rows
    return None


def run_checks(
    root: Path, kinds: tuple[str, ...], precisions: tuple[str, ...] = ('float64',)
) -> Iterator[tuple[str, list[Row] | None]]:
    """(name, rows) of each golden file and folder below ``root``; None: no check."""
    checks = file_checks()
    networks = sorted(path.parent for path in root.rglob('meta.json'))
    for path in sorted(root.rglob('*.npz')):
        if path.parent in networks or kind_of(path.stem) not in kinds:
            continue
        known = [prefix for prefix in checks if path.stem.startswith(prefix)]
        check = checks[max(known, key=len)] if known else None
        yield str(path.relative_to(root)), _carry_out(check, path, path.stem)
    for folder in networks:
        if kind_of_folder(folder) in kinds:
            check = partial(check_folder, precisions=precisions)
            yield str(folder.relative_to(root)), _carry_out(check, folder, folder.name)


def _carry_out(check: Callable | None, path: Path, name: str) -> list[Row] | None:
    if check is None:
        return None
    try:
        return check(path)
    except Exception as error:  # a check that breaks is a failed check, the others still run
        return [failure(name, error)]


def line(cells: tuple[str, ...]) -> str:
    """One line of the table."""
    widths = (34, 44, 10, 10, 24, 0)
    return ' '.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--golden', required=True, type=Path, metavar='DIR', help='golden files')
    parser.add_argument(
        '--only',
        default=','.join(KINDS),
        help=f'kinds to check, with commas: {",".join(KINDS)} (default: all)',
    )
    parser.add_argument(
        '--precision',
        default='float64',
        help='of training steps: float64, float32 or both with a comma (default: float64)',
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the table to FILE too')
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    kinds = tuple(args.only.split(','))
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        print(f'--only {unknown[0]!r} is no kind of golden file; choose from {", ".join(KINDS)}.')
        return 2
    if not args.golden.is_dir():
        print(f'--golden {args.golden} is not a folder; give one that holds .npz files.')
        return 2
    torch.manual_seed(0)
    table: list[Row] = []
    unchecked: list[str] = []
    print(line(('file', 'quantity', 'max abs', 'max rel', 'tolerance', 'verdict')))
    for name, rows in run_checks(args.golden, kinds, tuple(args.precision.split(','))):
        if rows is None:
            unchecked.append(name)
            continue
        for row in rows:
            table.append(row)
            verdict = 'ok' if row.ok else 'FAILED'
            numbers = (f'{row.max_abs:.2e}', f'{row.max_rel:.2e}', f'{row.tolerance}')
            print(line((row.file, row.quantity, *numbers, verdict)), flush=True)
    if not table and not unchecked:
        print(f'--golden {args.golden} holds no golden file of the kinds {args.only}.')
        return 2
    failed = sum(not row.ok for row in table)
    print(f'\n{len(table)} quantities checked, {failed} failed; {len(unchecked)} files unchecked.')
    for name in unchecked:
        print(f'  no check for {name}')
    if args.json:
        rows = [row._asdict() for row in table]
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({'rows': rows, 'unchecked': unchecked}, indent=1))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
