"""Last lines of a training or test: result, files and next command."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from mmengine.runner import Runner

AP_KEYS = {
    'bbox_mAP': 'AP', 'bbox_mAP_50': 'AP50', 'keypoints_mAP': 'AP of keypoints', 'mota': 'MOTA',
    'idf1': 'IDF1',
}  # fmt: skip
"""End of a metric's name -> its name in the closing line."""


def metrics_text(metrics: Mapping[str, float]) -> str:
    """The metrics of :data:`AP_KEYS`, or all if there is none of them.

    Example:
        >>> metrics_text({'coco/bbox_mAP': 0.41, 'coco/bbox_mAP_s': 0.2, 'data_time': 1.0})
        'AP 0.410'
        >>> metrics_text({'voc/mAP': 0.7, 'voc/AP50': 0.8})
        'voc/mAP 0.700, voc/AP50 0.800'
    """
    found: dict[str, float] = {}
    for key, value in metrics.items():
        found.setdefault(key.rpartition('/')[2], value)
    named = [(name, found[key]) for key, name in AP_KEYS.items() if key in found]
    rows = named or [(key, value) for key, value in metrics.items() if '/' in key]
    return ', '.join(
        f'{name} {value:.3f}' if isinstance(value, float) else f'{name} {value}'
        for name, value in rows
    )


def last_checkpoint(work_dir: str) -> str | None:
    """The checkpoint that MMEngine wrote last; None if there is none."""
    marker = Path(work_dir) / 'last_checkpoint'
    if not marker.is_file():
        return None
    path = Path(marker.read_text().strip())
    near = Path(work_dir) / path.name
    return str(near if near.is_file() else path)


def from_here(path: str | Path) -> Path:
    """A path as it is printed: relative to the current folder if it is inside, otherwise absolute.

    Example:
        >>> from_here(Path.cwd() / 'work_dirs' / 'mine').as_posix()
        'work_dirs/mine'
    """
    path = Path(path)
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def tool_command(name: str, *words: object) -> str:
    """Command of another tool, in the folder of the running one; words with spaces are quoted.

    Example:
        >>> tool_command('train.py', Path('my own.py'))
        "python tools/train.py 'my own.py'"
    """
    beside = from_here(Path(sys.argv[0]).with_name(name))
    tool = beside if beside.is_file() else Path('tools') / name
    return shlex.join(['python', *map(str, (tool, *words))])


def log_line(runner: Runner) -> str:
    """The line with the path of the log file."""
    return f'log: {from_here(Path(runner.log_dir) / f"{runner.timestamp}.log")}'


def last_validation(runner: Runner) -> dict[str, float]:
    """Metrics of the last validation of a training."""
    found = runner.message_hub.log_scalars.items()
    return {
        key.removeprefix('val/'): scalar.current()
        for key, scalar in found
        if key.startswith('val/') and len(scalar.data[0])
    }


def closing_lines(metrics: Mapping[str, float], work_dir: str, config: str) -> list[str]:
    """The lines to print after a training.

    Args:
        metrics: of the last validation.
        work_dir: of the training.
        config: path of the config.

    Example:
        >>> closing_lines({'coco/bbox_mAP': 0.41}, 'no_such_folder', 'mine.py')
        ['AP 0.410']
    """
    result = [text] if (text := metrics_text(metrics)) else []
    last = last_checkpoint(work_dir)
    if last is not None:
        checkpoint = from_here(last)
        result += [
            f'checkpoint: {checkpoint}',
            f'next: {tool_command("predict.py", config, checkpoint)} IMAGES --out predicted',
        ]
    return result
