"""Train the tiny configs, one after the other, and write what was measured to docs/zoo.md.

Every config is trained by ``tools/train.py`` in a process of its own, on the data that it asks for
(``made_by``, see ``tools/makers.py``). A finished training is not repeated, an interrupted one
continues. A config's ``also_tested``, name -> options, are tests of the trained detector with other
options. Rows of configs that are not trained this time stay as they were measured, with their own
commit and date.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import mmdet_losses  # noqa: F401  (says what is missing)

# isort: split
from mmengine.config import Config

from tools.makers import make_data, small_configs

RESULTS = ROOT / 'docs' / 'zoo.json'
PAGE = ROOT / 'docs' / 'zoo.md'
# metric -> head of its column; a detector without it leaves the field empty
COLUMNS = {
    'coco/bbox_mAP': 'AP',
    'coco/bbox_mAP_50': 'AP50',
    'coco/keypoints_mAP': 'OKS AP',
    'mot/mota': 'MOTA',
    'mot/idf1': 'IDF1',
}
SEEN = 'pixels/seen_share'


class ZooError(Exception):
    """What went wrong, as the sentence that a user needs."""


class Usage(NamedTuple):
    """What a process took."""

    status: int
    minutes: float
    memory: float
    """Peak resident memory of the training process in MiB, without its data loaders."""


def configs_of_zoo() -> dict[str, Path]:
    """Name -> path of every small config, and of the baselines of MMDetection."""
    paths = [*small_configs().values(), *ROOT.glob('configs/baselines/*.py')]
    return {path.stem: path for path in sorted(paths)}


def chosen(names: list[str]) -> dict[str, Path]:
    """The configs of these names (the folder stands for its small config), or all.

    Raises:
        ZooError: there is no such config.
    """
    configs = configs_of_zoo()
    folders = {folder: path.stem for folder, path in small_configs().items()}
    wanted = {folders.get(name, name) for name in names}
    unknown = sorted(wanted - configs.keys())
    if unknown:
        raise ZooError(f'there is no {", ".join(unknown)}; choose of {", ".join(configs)}.')
    return {name: path for name, path in configs.items() if name in wanted or not wanted}


def measure(command: list[str], log: Path) -> Usage:
    """Run a command to its end, its output into ``log``."""
    start = time.monotonic()
    with log.open('a') as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        memory = 0.0
        try:
            while process.poll() is None:
                memory = max(memory, peak_memory(process.pid))
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    return Usage(process.returncode, (time.monotonic() - start) / 60, memory)


def peak_memory(pid: int) -> float:
    """MiB, as Linux counts them; 0 once the process has ended.

    (``getrusage`` would also count what this process held when it started the other.)
    """
    try:
        lines = Path(f'/proc/{pid}/status').read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith('VmHWM:'))


def train(name: str, config: Path, out: Path) -> dict[str, object]:
    """Train one config, or find it trained; returns its row of the table.

    Raises:
        ZooError: the training failed; its log says why.
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
        raise ZooError(f'training {name} ended with status {usage.status}; its log is {log}.')
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


def data_root(cfg: Config) -> str:
    """Folder of the training data, whatever repeats or joins them."""
    dataset = cfg.train_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    return dataset.data_root


def test_options(cfg: Config, config: Path, work_dir: Path) -> dict[str, dict[str, float]]:
    """Name -> metrics of the trained detector, with the options that the config names.

    Raises:
        ZooError: a test failed; its log says why.
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
            raise ZooError(f'the test of {cfg.filename} with {name} failed; its log is {log}.')
        results = sorted(out.glob('*/*.json'))[-1]
        found = json.loads(results.read_text())
        metrics[name] = {key: found[key] for key in (*COLUMNS, SEEN) if key in found}
    return metrics


def final_metrics(work_dir: Path) -> dict[str, float]:
    """The last validation in the newest log.

    Raises:
        ZooError: there was none.
    """
    for path in sorted(work_dir.glob('*/vis_data/scalars.json'), reverse=True):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        validations = [line for line in lines if not COLUMNS.keys().isdisjoint(line)]
        if validations:
            return {key: validations[-1][key] for key in (*COLUMNS, SEEN) if key in validations[-1]}
    raise ZooError(f'no validation is logged in {work_dir}; remove that folder and train again.')


def git_commit() -> str:
    """Short hash of the checkout, with ``+`` where code or configs differ from it."""

    def git(*arguments: str) -> str:
        command = ['git', '-C', str(ROOT), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    commit = git('rev-parse', '--short', 'HEAD')
    changed = git('status', '--porcelain', '--', 'mmdet_losses', 'configs', 'tools')
    return (commit or 'unknown') + ('+' if commit and changed else '')


def write_page(rows: dict[str, dict[str, object]], page: Path = PAGE) -> None:
    """The table of all rows, by name."""
    lines = [
        '# Zoo: the tiny detectors, as trained',
        '',
        'Written by `make zoo` (`python tools/zoo.py NAME ...`: only these) from what it measured:',
        'COCO AP of boxes (and of keypoints) or MOTA and IDF1 of tracks on the validation split at',
        'the end of training, wall-clock minutes of training and validation, peak memory of the',
        'training process without its data loaders. Minutes depend on the machine and on what else',
        'it did. A `+` marks a commit with local changes; one that `git log` does not know belongs',
        'to the history before the first public commit.',
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
            notes.append(f'{name} was trained in {row["pieces"]} pieces.')
        if SEEN in row:
            notes.append(f'{name} processed {row[SEEN]:.2f} of the pixels of the full resolution.')
        for other, found in row.get('also', {}).items():
            heads = {**COLUMNS, SEEN: 'share of the pixels'}
            told = ', '.join(f'{heads[key]} {value:.3f}' for key, value in found.items())
            notes.append(f'{name}, {other}: {told}.')
    page.write_text('\n'.join([*lines, *([''] if notes else []), *notes]) + '\n')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('names', nargs='*', help='tiny configs by name; all without any')
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs' / 'zoo', help='work dirs')
    parser.add_argument('--list', action='store_true', help='print the names and do nothing')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Train what was asked for; one failure does not stop the others."""
    args = parse_args(argv)
    if args.list:
        print('\n'.join(configs_of_zoo()))
        return 0
    try:
        configs = chosen(args.names)
    except ZooError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    failures = []
    for number, (name, path) in enumerate(configs.items(), 1):
        print(f'[{number}/{len(configs)}] {name}', flush=True)
        try:
            row = train(name, path, args.out.resolve())
        except (ZooError, ValueError, FileExistsError) as error:
            failures.append(name)
            print(f'  error: {error}', file=sys.stderr, flush=True)
            continue
        measured = [f'{head} {row[key]:.3f}' for key, head in COLUMNS.items() if key in row]
        print(f'  {", ".join(measured)}, {row["minutes"]} minutes, {row["memory"]} MiB')
        rows = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
        rows[name] = row
        RESULTS.write_text(json.dumps(rows, indent=2, sort_keys=True) + '\n')
        write_page(rows)
    print(f'{len(configs) - len(failures)} of {len(configs)} in {PAGE.relative_to(ROOT)}')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
