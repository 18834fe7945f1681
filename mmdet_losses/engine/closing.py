"""Last lines of a training: result, checkpoint and next commands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

AP_KEYS = {'bbox_mAP': 'AP', 'bbox_mAP_50': 'AP50', 'keypoints_mAP': 'AP of keypoints'}
"""End of a metric's name -> its name in the closing line."""


def last_checkpoint(work_dir: str) -> str | None:
    """The checkpoint that MMEngine wrote last; None if there is none."""
    marker = Path(work_dir) / 'last_checkpoint'
    if not marker.is_file():
        return None
    path = Path(marker.read_text().strip())
    near = Path(work_dir) / path.name
    return str(near if near.is_file() else path)


def closing_lines(scalars: Mapping[str, float], work_dir: str, config: str) -> list[str]:
    """The lines to print after a training.

    Args:
        scalars: last value of every metric, named as in MMEngine's message hub.
        work_dir: of the training.
        config: path of the config.

    Example:
        >>> closing_lines({'val/coco/bbox_mAP': 0.41}, 'no_such_folder', 'mine.py')
        ['AP 0.410']
    """
    found = {key.rpartition('/')[2]: value for key, value in scalars.items() if 'val/' in key}
    lines = [f'{name} {found[key]:.3f}' for key, name in AP_KEYS.items() if key in found]
    result = [', '.join(lines)] if lines else []
    checkpoint = last_checkpoint(work_dir)
    if checkpoint is not None:
        result += [
            f'checkpoint: {checkpoint}',
            f'next: python tools/predict.py {config} {checkpoint} IMAGES --out predicted',
        ]
    return result
