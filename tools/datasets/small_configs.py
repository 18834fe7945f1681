"""Small configs, their data sets, and the functions that make the data sets.

A small config trains on a CPU in minutes; its name ends with ``_digits``, ``_figures`` or
``_videos``. Its ``made_by`` names the tool that makes its data, and the options, for example
``made_by = dict(tool='make_digits', train=1000)``. The default is make_digits without options.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config

from tools.datasets.digits import make_digits
from tools.datasets.figures import make_figures
from tools.datasets.videos import make_videos

MAKERS: dict[str, Callable[..., Path]] = {
    'make_digits': make_digits,
    'make_figures': make_figures,
    'make_videos': make_videos,
}
CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
NOT_FULL = ('_base_', 'baselines', 'bccd', 'own')
KINDS = ('digits', 'figures', 'videos')


def small_configs() -> dict[str, Path]:
    """Folder of ``configs/`` -> path of its small config, ``<folder>_<kind>.py``."""
    paths = (path for kind in KINDS for path in CONFIGS.glob(f'*/*_{kind}.py'))
    return {
        path.parent.name: path
        for path in sorted(paths)
        if path.stem.rpartition('_')[0] == path.parent.name
    }


def full_recipes() -> list[Path]:
    """Paths of the configs that train a published detector on the data of its paper."""
    small = set(small_configs().values())
    return [
        path
        for path in sorted(CONFIGS.glob('*/*.py'))
        if path.parent.name not in NOT_FULL
        and path not in small
        and not path.stem.endswith(('_digits', '_bccd'))
    ]


def data_maker(cfg: Config) -> tuple[str, dict[str, Any]]:
    """Name of the tool that makes the data of a config, and its options.

    Raises:
        ValueError: There is no such tool.
    """
    options = dict(cfg.get('made_by', {}))
    tool = options.pop('tool', 'make_digits')
    if tool not in MAKERS:
        raise ValueError(f"made_by has tool='{tool}'; choose from {', '.join(MAKERS)}.")
    return tool, options


def make_data(cfg: Config, out: str | Path, **changes: Any) -> Path:
    """Make the data of a config in the folder ``out``, or find that they are made.

    Args:
        **changes: Options that replace those of the config.
    """
    tool, options = data_maker(cfg)
    return MAKERS[tool](out, **{**options, **changes})


def data_root(cfg: Config) -> str:
    """Folder of the training data, inside any wrappers of the data set."""
    dataset = cfg.train_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    return dataset.data_root
