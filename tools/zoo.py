"""Train the small configs one after the other, and write the measured values to docs/zoo.md.

Each config is trained by ``tools/train.py`` in its own process, on the data that its ``made_by``
names. A finished training is not repeated, an interrupted one continues. ``also_tested`` of a
config (name -> options) adds tests of the trained detector with other options. The rows of the
other configs keep their values, commit and date.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import mmdet_losses  # noqa: F401  (raises a clear error if the stack is incomplete)

# isort: split
from mmengine.config import Config

from tools.benchmarks.runs import TrainingError, git_commit, measure
from tools.datasets.small_configs import data_root, make_data, small_configs

RESULTS = ROOT / 'docs' / 'zoo.json'
PAGE = ROOT / 'docs' / 'zoo.md'
# metric -> title of its column; the field of a detector without the metric is empty
COLUMNS = {
    'coco/bbox_mAP': 'AP',
    'coco/bbox_mAP_50': 'AP50',
    'coco/keypoints_mAP': 'OKS AP',
    'mot/mota': 'MOTA',
    'mot/idf1': 'IDF1',
}
SEEN = 'pixels/seen_share'


def configs_of_zoo() -> dict[str, Path]:
    """Name -> path of every small config, and of MMDetection's baselines."""
    paths = [*small_configs().values(), *ROOT.glob('configs/baselines/*.py')]
    return {path.stem: path for path in sorted(paths)}


def chosen(names: list[str]) -> dict[str, Path]:
    """The configs of these names, or all; the name of a folder selects its small config.

    Raises:
        TrainingError: There is no such config.
    """
    configs = configs_of_zoo()
    folders = {folder: path.stem for folder, path in small_configs().items()}
    wanted = {folders.get(name, name) for name in names}
    unknown = sorted(wanted - configs.keys())
    if unknown:
        raise TrainingError(
            f'there is no config {", ".join(unknown)}; choose from {", ".join(configs)}.'
        )
    return {name: path for name, path in configs.items() if name in wanted or not wanted}


def train(name: str, config: Path, out: Path) -> dict[str, object]:
    """Train a config unless it is trained; returns its row of the table.

    Raises:
        TrainingError: The training failed; the message names its log.
    """
    work_dir = out / name
    row_path, parts_path = work_dir / 'zoo.json', work_dir / 'zoo_parts.json'
    if row_path.is_file():
        print(f'  already trained (remove {work_dir} to train it again)', flush=True)
        return json.loads(row_path.read_text())
    cfg = Config.fromfile(config)
    make_data(cfg, ROOT / data_root(cfg))
    work_dir.mkdir(parents=True, exist_ok=True)
    parts = json.loads(parts_path.read_text()) if parts_path.is_file() else []
    log = work_dir / 'zoo.log'
    script = str(ROOT / 'tools' / 'train.py')
    commit = git_commit()
    command = [sys.executable, script, str(config), '--work-dir', str(work_dir), '--resume']
    usage = measure(command, log)
    parts.append(usage._asdict())
    parts_path.write_text(json.dumps(parts))
    if usage.status:
        raise TrainingError(f'training {name} ended with status {usage.status}; see {log}.')
    row: dict[str, object] = dict(
        config=str(config.relative_to(ROOT)),
        **final_metrics(work_dir),
        also=test_options(cfg, config, work_dir),
        minutes=round(sum(part['minutes'] for part in parts), 1),
        memory=round(max(part['memory'] for part in parts)),
        pieces=len(parts),
        commit=commit,
        date=time.strftime('%Y-%m-%d'),
        cores=os.cpu_count(),
        threads=os.environ.get('OMP_NUM_THREADS', 'default'),
    )
    row_path.write_text(json.dumps(row, indent=2) + '\n')
    return row


def test_options(cfg: Config, config: Path, work_dir: Path) -> dict[str, dict[str, float]]:
    """Name -> metrics of the trained detector, for each entry of the config's ``also_tested``.

    Raises:
        TrainingError: A test failed; the message names its log.
    """
    script, metrics = str(ROOT / 'tools' / 'test.py'), {}
    for number, (name, options) in enumerate(cfg.get('also_tested', {}).items()):
        print(f'  testing: {name}', flush=True)
        checkpoint = (work_dir / 'last_checkpoint').read_text()
        out = work_dir / f'also_{number}'
        changes = [f'{key}={value}' for key, value in options.items()]
        command = [sys.executable, script, str(config), checkpoint, '--work-dir', str(out)]
        log = work_dir / 'zoo.log'
        if measure([*command, '--cfg-options', *changes], log).status:
            raise TrainingError(f'the test of {cfg.filename} with {name} failed; see {log}.')
        results = sorted(out.glob('*/*.json'))[-1]
        found = json.loads(results.read_text())
        metrics[name] = {key: found[key] for key in (*COLUMNS, SEEN) if key in found}
    return metrics


def final_metrics(work_dir: Path) -> dict[str, float]:
    """Metrics of the last validation in the newest log.

    Raises:
        TrainingError: No validation is logged.
    """
    for path in sorted(work_dir.glob('*/vis_data/scalars.json'), reverse=True):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        validations = [line for line in lines if not COLUMNS.keys().isdisjoint(line)]
        if validations:
            return {key: validations[-1][key] for key in (*COLUMNS, SEEN) if key in validations[-1]}
    raise TrainingError(
        f'no validation is logged in {work_dir}; remove that folder and train again.'
    )


def write_page(rows: dict[str, dict[str, object]], page: Path = PAGE) -> None:
    """Write the table of all rows, sorted by name."""
    lines = [
        '# Zoo: the small detectors, as trained',
        '',
        'Written by `make zoo` (for some detectors: `python tools/zoo.py NAME ...`) from its',
        'measured values: COCO AP of boxes (and of keypoints), or MOTA and IDF1 of tracks, on the',
        'validation split at the end of training; wall-clock minutes of training and validation;',
        'peak memory of the training process without its data loaders. The minutes depend on the',
        'machine and its load. A `+` marks a commit with local changes. A commit that is not in',
        '`git log` is older than the first public commit.',
        '',
        f'| detector | {" | ".join(COLUMNS.values())} | minutes | memory (MiB) | cores, threads '
        '| commit | date |',
        f'|---|{"---|" * len(COLUMNS)}---|---|---|---|---|',
    ]
    notes = []
    for name, row in sorted(rows.items()):
        measured = ' | '.join(f'{row[key]:.3f}' if key in row else '' for key in COLUMNS)
        lines.append(
            f'| [{name}](../{row["config"]}) | {measured} | {row["minutes"]} | {row["memory"]} '
            f'| {row["cores"]}, {row["threads"]} | {row["commit"]} | {row["date"]} |'
        )
        if row['pieces'] > 1:
            notes.append(f'{name} was trained in {row["pieces"]} parts.')
        if SEEN in row:
            notes.append(f'{name} processed {row[SEEN]:.2f} of the pixels of the full resolution.')
        for other, found in row.get('also', {}).items():
            titles = {**COLUMNS, SEEN: 'fraction of the pixels'}
            values = ', '.join(f'{titles[key]} {value:.3f}' for key, value in found.items())
            notes.append(f'{name}, {other}: {values}.')
    page.write_text('\n'.join([*lines, *([''] if notes else []), *notes]) + '\n')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('names', nargs='*', help='names of small configs; default: all')
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs' / 'zoo', help='work dirs')
    parser.add_argument('--list', action='store_true', help='print the names and exit')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Train the chosen configs; the others are trained even if one fails."""
    args = parse_args(argv)
    if args.list:
        print('\n'.join(configs_of_zoo()))
        return 0
    try:
        configs = chosen(args.names)
    except TrainingError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    failures = []
    for number, (name, path) in enumerate(configs.items(), 1):
        print(f'[{number}/{len(configs)}] {name}', flush=True)
        try:
            row = train(name, path, args.out.resolve())
        except (TrainingError, ValueError, FileExistsError) as error:
            failures.append(name)
            print(f'  error: {error}', file=sys.stderr, flush=True)
            continue
        measured = [f'{title} {row[key]:.3f}' for key, title in COLUMNS.items() if key in row]
        print(f'  {", ".join(measured)}, {row["minutes"]} minutes, {row["memory"]} MiB')
        rows = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
        rows[name] = row
        RESULTS.write_text(json.dumps(rows, indent=2, sort_keys=True) + '\n')
        write_page(rows)
    print(f'{len(configs) - len(failures)} of {len(configs)} in {PAGE.relative_to(ROOT)}')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
