"""The data sets of the tiny configs, and the tools that make them.

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
