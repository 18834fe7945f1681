"""The small configs, their data sets, and the tools that make them.

A small config trains on a CPU in minutes: `*_digits.py`, `*_figures.py` or `*_videos.py`.

A config says in ``made_by`` which tool makes its data and with which options, for example
``made_by = dict(tool='make_digits', train=1000)``; without it that is make_digits as it comes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config

from tools.make_digits import make_digits
from tools.make_figures import make_figures
from tools.make_videos import make_videos

MAKERS: dict[str, Callable[..., Path]] = {
    'make_digits': make_digits,
    'make_figures': make_figures,
    'make_videos': make_videos,
}


CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
KINDS = ('digits', 'figures', 'videos')


def small_configs() -> dict[str, Path]:
    """Folder of ``configs/`` -> path of its small config, ``<folder>_<kind>.py``."""
    paths = (path for kind in KINDS for path in CONFIGS.glob(f'*/*_{kind}.py'))
    return {
        path.parent.name: path
        for path in sorted(paths)
        if path.stem.rpartition('_')[0] == path.parent.name
    }


def wanted(cfg: Config) -> tuple[str, dict[str, Any]]:
    """Name of the tool and its options.

    Raises:
        ValueError: there is no such tool.
    """
    options = dict(cfg.get('made_by', {}))
    tool = options.pop('tool', 'make_digits')
    if tool not in MAKERS:
        raise ValueError(f"made_by names the tool '{tool}'; choose of {', '.join(MAKERS)}.")
    return tool, options


def make_data(cfg: Config, out: str | Path, **changes: Any) -> Path:
    """Make the data of a config in the folder ``out``, or find them made.

    Args:
        **changes: options that replace the config's.
    """
    tool, options = wanted(cfg)
    return MAKERS[tool](out, **{**options, **changes})
