"""Build the files of a release in dist/: wheel, sdist, checkpoints, documentation, checksums.

Checkpoints are those of every folder in work_dirs that is named like a config of the checkout. They
are stored without the state of the optimizer, and their names end with the first eight digits of
their SHA-256.
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

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mmdet_losses import __version__, engine
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
    """(config, last checkpoint) of every finished training of a config of the checkout."""
    configs = {path.stem: path for path in ROOT.glob('configs/*/*.py')}
    for marker in sorted(work_dirs.glob('**/last_checkpoint')):
        checkpoint = last_checkpoint(str(marker.parent))
        config = configs.get(marker.parent.name)
        if config is not None and checkpoint is not None and Path(checkpoint).is_file():
            yield config, Path(checkpoint)


def publish(checkpoint: Path, name: str, folder: Path) -> Path:
    """Store the weights of a training checkpoint; returns the new file."""
    content = torch.load(checkpoint, map_location='cpu', weights_only=True)
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


def pack_checkpoints(work_dirs: Path, out: Path) -> int:
    """Write the archive of the checkpoints; returns their number."""
    folder = out / f'{NAME}-checkpoints'
    folder.mkdir()
    found = list(trainings(work_dirs))
    for config, checkpoint in found:
        publish(checkpoint, config.stem, folder)
    if found:
        write_sums(folder)
        pack(folder)
    shutil.rmtree(folder)
    return len(found)


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
    count = pack_checkpoints(args.work_dirs, args.out)
    site = args.out / f'{NAME}-docs'
    shutil.copytree(args.site, site)
    pack(site)
    shutil.rmtree(site)
    write_sums(args.out)
    none = f' (train them with `make zoo`; none are in {args.work_dirs})' if count == 0 else ''
    return [f'checkpoints: {count}{none}', (args.out / SUMS).read_text().rstrip()]


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
