"""Compare this package with golden numbers of the official codes, and print a table.

Reads every golden file below DIR that a check understands (by the file's name, the longest known
beginning wins) and every network folder (one with a ``meta.json``). Every array of a file is
compared, an input, or listed at the end with the reason why it is not compared. Exits with 1 if
anything differs by more than its tolerance, or if an array is none of these.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.parity.golden import INPUT, Check, run
from tools.parity.rows import Row, failure

FAMILIES = (
    'anchor',
    'center',
    'corner',
    'darknet',
    'darknet_training',
    'scaled_yolov4',
    'yolo_decode',
)
"""Modules of ``tools/parity`` with ``CHECKS``: beginning of a file's name -> check."""
KINDS = ('losses', 'targets', 'decode', 'models', 'trajectories')
PRECISIONS = ('float64', 'float32')
LISTED = 8
"""More names of arrays than this are shortened in the list of arrays that are not compared."""
WORDS = {
    'trajectories': ('train_',),
    'models': ('cfg_forward',),
    'decode': ('decode', 'detect', 'tracker', 'prehm', 'real_'),
    'losses': ('loss', 'multibox', 'iou_'),
}


def file_checks() -> dict[str, Check]:
    """Beginning of a file's name to its check, from every family."""
    checks: dict[str, Check] = {}
    for family in FAMILIES:
        checks.update(importlib.import_module(f'tools.parity.{family}').CHECKS)
    return checks


def check_of(name: str, checks: Mapping[str, Check]) -> Check | None:
    """The check with the longest beginning of ``name``; None: no check."""
    known = [prefix for prefix in checks if name.startswith(prefix)]
    return checks[max(known, key=len)] if known else None


def kind_of(name: str) -> str:
    """What a golden file is about, from its name: one of :data:`KINDS`."""
    kinds = (kind for kind, words in WORDS.items() if any(word in name for word in words))
    return next(kinds, 'targets')


def kind_of_folder(folder: Path) -> str:
    """What a golden folder is about: 'trajectories' or 'models'."""
    return 'trajectories' if (folder / 'names.json').exists() else 'models'


def check_folder(folder: Path, precisions: Sequence[str] = PRECISIONS[:1]) -> list[Row] | None:
    """The rows of a folder of training steps or of a network; None where there is no check."""
    module = importlib.import_module(f'tools.parity.{kind_of_folder(folder)}')
    try:
        if kind_of_folder(folder) == 'models':
            return module.check_model(folder)
        checked = [module.check_trajectory(folder, precision) for precision in precisions]
        return (
            None
            if None in checked
            else list(dict.fromkeys(row for rows in checked for row in rows))
        )
    except Exception as error:  # a check that breaks is a failed check, the others still run
        return [failure(folder.name, error)]


def run_checks(
    root: Path, kinds: Sequence[str], precisions: Sequence[str] = PRECISIONS[:1]
) -> Iterator[tuple[str, list[Row] | None]]:
    """(name, rows) of each golden file and folder below ``root``; None: no check."""
    checks = file_checks()
    networks = sorted(path.parent for path in root.rglob('meta.json'))
    for path in sorted(root.rglob('*.npz')):
        drawn = path.parent.name == 'augment'  # tools/check_augmentation.py compares these
        if not drawn and path.parent not in networks and kind_of(path.stem) in kinds:
            check = check_of(path.stem, checks)
            yield str(path.relative_to(root)), run(check, path) if check else None
    for folder in networks:
        if kind_of_folder(folder) in kinds:
            yield str(folder.relative_to(root)), check_folder(folder, precisions)


def line(*cells: str) -> str:
    """One line of the table."""
    widths = (34, 44, 10, 10, 10, 24, 0)
    return ' '.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))


def print_row(row: Row) -> None:
    """One comparison; long lists of tolerances are cut."""
    numbers = (f'{row.max_abs:.2e}', f'{row.max_rel:.2e}', f'{row.used:.3f}'.replace('nan', '-'))
    verdict = 'ok' if row.ok else 'FAILED'
    print(line(row.file, row.quantity, *numbers, f'{row.tolerance}'[:24], verdict), flush=True)


def print_notes(notes: Sequence[Row]) -> None:
    """What is not compared, grouped by reason; inputs are counted only."""
    groups: dict[str, list[Row]] = {}
    for note in notes:
        groups.setdefault(note.reason, []).append(note)
    for reason, rows in groups.items():
        count = sum(row.quantity.count(',') + 1 for row in rows)
        print(f'not compared: {count} arrays: {reason}')
        for row in rows if reason != INPUT else ():
            print(f'  {row.file}: {shorten(row.quantity)}')


def shorten(names: str) -> str:
    """Names of arrays, with those of one case as ``case__* (number)`` if there are many."""
    listed = names.split(', ')
    if len(listed) <= LISTED:
        return names
    cases = Counter(name.partition('__')[0] + '__*' if '__' in name else name for name in listed)
    return ', '.join(name + f' ({count})' * (count > 1) for name, count in cases.items())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--golden', required=True, type=Path, metavar='DIR', help='golden files')
    words = f'kinds to check, with commas: {",".join(KINDS)} (default: all)'
    parser.add_argument('--only', default=','.join(KINDS), help=words)
    words = f'of training steps: {" or ".join(PRECISIONS)}, or both with a comma'
    parser.add_argument('--precision', default=PRECISIONS[0], help=f'{words} (default: float64)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the table to FILE too')
    args = parser.parse_args()
    kinds, precisions = args.only.split(','), args.precision.split(',')
    for name, given, known in (('only', kinds, KINDS), ('precision', precisions, PRECISIONS)):
        if unknown := sorted(set(given) - set(known)):
            print(f'--{name} {unknown[0]!r} is unknown; choose from {", ".join(known)}.')
            return 2
    if not args.golden.is_dir():
        print(f'--golden {args.golden} is not a folder; give one that holds .npz files.')
        return 2
    torch.manual_seed(0)
    table: list[Row] = []
    notes: list[Row] = []
    unchecked: list[str] = []
    print(line('file', 'quantity', 'max abs', 'max rel', 'used', 'tolerance', 'verdict'))
    for name, rows in run_checks(args.golden, kinds, precisions):
        if rows is None:
            unchecked.append(name)
        for row in rows or ():
            (notes if row.reason else table).append(row)
            if not row.reason:
                print_row(row)
    if not table and not unchecked:
        print(f'--golden {args.golden} holds no golden file of the kinds {args.only}.')
        return 2
    failed = sum(not row.ok for row in table)
    print()
    print_notes(notes)
    print(f'\n{len(table)} quantities checked, {failed} failed; {len(unchecked)} files unchecked.')
    for name in unchecked:
        print(f'  no check for {name}')
    if args.json:
        result = {'rows': [row._asdict() for row in table + notes], 'unchecked': unchecked}
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=1))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
