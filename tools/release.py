"""Build the files of a release in dist/: wheel, sdist, checkpoints, documentation, checksums.

Checkpoints are those of every finished training in work_dirs whose folder is named like a config of
the checkout. They are stored without the state of the optimizer, and their names end with the first
eight digits of their SHA-256.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mmdet_losses import __version__, engine

# isort: split
from mmengine.config import Config

from mmdet_losses.engine.closing import last_checkpoint

SUMS = 'SHA256SUMS'
NAME = f'mmdet_losses-{__version__}'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, default=ROOT / 'dist')
    parser.add_argument(
        '--work-dirs', type=Path, default=ROOT / 'work_dirs', help='folder with trainings'
    )
    parser.add_argument('--site', type=Path, default=ROOT / 'site', help='folder of `make docs`')
    return parser.parse_args(argv)


def build_packages(out: Path) -> None:
    """Build sdist and wheel with the installed setuptools, without a network.

    Raises:
        UsageError: the build failed.
    """
    code = (
        'import sys; from setuptools import build_meta; '
        'out = sys.argv[1]; build_meta.build_sdist(out); build_meta.build_wheel(out)'
    )
    shutil.rmtree(ROOT / 'build', ignore_errors=True)  # has modules that were removed since
    command = [sys.executable, '-W', 'ignore', '-c', code, str(out.resolve())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise engine.UsageError(f'the package does not build:\n{done.stdout}{done.stderr}')


def trainings(work_dirs: Path) -> Iterator[tuple[Path, Path]]:
    """(config, last checkpoint) of every training of a config of the checkout."""
    configs = {path.stem: path for path in ROOT.glob('configs/*/*.py')}
    for marker in sorted(work_dirs.glob('**/last_checkpoint')):
        checkpoint = last_checkpoint(str(marker.parent))
        config = configs.get(marker.parent.name)
        if config is not None and checkpoint is not None and Path(checkpoint).is_file():
            yield config, Path(checkpoint)


def remaining(config: Path, checkpoint: Path, meta: dict[str, Any]) -> str:
    """What is left of a training, such as `epoch 2 of 5`; empty if it is finished."""
    dumped = checkpoint.parent / config.name  # with the options of the command line
    schedule = Config.fromfile(dumped if dumped.is_file() else config).train_cfg
    for unit in ('epoch', 'iter'):
        total = schedule.get(f'max_{unit}s')
        if total is not None and meta.get(unit, total) < total:
            return f'{unit} {meta[unit]} of {total}'
    return ''


def publish(content: dict[str, Any], name: str, folder: Path) -> Path:
    """Store the weights of a training checkpoint; returns the new file."""
    meta = {key: content.get('meta', {}).get(key) for key in ('epoch', 'dataset_meta')}
    draft = folder / f'{name}.pth'
    torch.save(dict(meta=meta, state_dict=content['state_dict']), draft)
    return draft.rename(folder / f'{name}-{sha256(draft)[:8]}.pth')


def sha256(path: Path) -> str:
    """Checksum of a file."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def write_sums(folder: Path) -> None:
    """Write the checksums of a folder; ``sha256sum -c`` reads them."""
    paths = sorted(path for path in folder.iterdir() if path.is_file() and path.name != SUMS)
    lines = [f'{sha256(path)}  {path.name}\n' for path in paths]
    (folder / SUMS).write_text(''.join(lines))


def pack(folder: Path) -> Path:
    """Archive a folder as FOLDER.tar.gz."""
    archive = folder.with_name(f'{folder.name}.tar.gz')
    with tarfile.open(archive, 'w:gz') as file:
        file.add(folder, arcname=folder.name)
    return archive


def pack_checkpoints(work_dirs: Path, out: Path) -> list[str]:
    """Write the archive of the checkpoints; returns the lines to print."""
    folder = out / f'{NAME}-checkpoints'
    folder.mkdir()
    lines, count = [], 0
    for config, checkpoint in trainings(work_dirs):
        content = torch.load(checkpoint, map_location='cpu', weights_only=True)
        left = remaining(config, checkpoint, content.get('meta', {}))
        if left:
            lines.append(f'skipped: {checkpoint} ({left})')
            continue
        publish(content, config.stem, folder)
        count += 1
    if count:
        write_sums(folder)
        pack(folder)
    shutil.rmtree(folder)
    none = '' if count else f' (train them with `make zoo`; none are in {work_dirs})'
    return [*lines, f'checkpoints: {count}{none}']


def release(args: argparse.Namespace) -> list[str]:
    """Build everything; returns the lines to print.

    Raises:
        UsageError: the documentation is missing, or the package does not build.
    """
    if not (args.site / 'index.html').is_file():
        raise engine.UsageError(f'{args.site}/index.html does not exist; run `make docs` first.')
    shutil.rmtree(args.out, ignore_errors=True)
    args.out.mkdir(parents=True)
    build_packages(args.out)
    lines = pack_checkpoints(args.work_dirs, args.out)
    site = args.out / f'{NAME}-docs'
    shutil.copytree(args.site, site)
    pack(site)
    shutil.rmtree(site)
    write_sums(args.out)
    return [*lines, (args.out / SUMS).read_text().rstrip()]


def main(argv: list[str] | None = None) -> int:
    """Build a release; returns the exit code."""
    try:
        print('\n'.join(release(parse_args(argv))))
    except (OSError, engine.UsageError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
