"""Data sets and evaluators of a config, as they are written there."""

from __future__ import annotations

import os.path as osp
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

from mmdet_losses.registry import DATASETS, METRICS


class DataSource(NamedTuple):
    """A data set of a config that reads an annotation file."""

    key: str
    """Its place in the config, such as ``train_dataloader.dataset``."""
    kind: type | None
    """None: the type is unknown, which is an error when the data set is built."""
    settings: dict[str, Any]

    @property
    def ann_file(self) -> str:
        """Path of the annotation file, as the data set joins it."""
        return _joined(self.settings.get('data_root'), self.settings.get('ann_file') or '')

    def folder(self, key: str) -> str:
        """Path of a folder of ``data_prefix``, as the data set joins it."""
        prefix = self.settings.get('data_prefix') or getattr(self.kind, 'PREFIX', {})
        return _joined(self.settings.get('data_root'), prefix.get(key) or '')

    @property
    def classes(self) -> tuple[str, ...] | str:
        """Class names of the config, or of the type; a text is a mistake of the config."""
        metainfo = {key.lower(): value for key, value in self._metainfo().items()}
        classes = metainfo.get('classes') or ()
        if isinstance(classes, str):
            path = Path(classes)
            return tuple(path.read_text().splitlines()) if path.is_file() else classes
        return tuple(classes)

    def _metainfo(self) -> dict[str, Any]:
        return {**getattr(self.kind, 'METAINFO', {}), **(self.settings.get('metainfo') or {})}


def leaf_configs(dataset: Any, key: str = 'dataset') -> Iterator[tuple[str, Any]]:
    """(place, settings) of the data sets inside wrappers with ``dataset`` or ``datasets``."""
    if isinstance(dataset, (list, tuple)):
        for i, each in enumerate(dataset):
            yield from leaf_configs(each, f'{key}[{i}]')
    elif isinstance(dataset, dict):
        inner = [name for name in ('dataset', 'datasets') if name in dataset]
        for name in inner:
            yield from leaf_configs(dataset[name], f'{key}.{name}')
        if not inner:
            yield key, dataset


def first_leaf(dataset: Any) -> Any:
    """Settings of the first data set inside wrappers."""
    return next(leaf_configs(dataset))[1]


def data_sources(cfg: Config, split: str) -> list[DataSource]:
    """Data sets with an annotation file of a split ('train', 'val' or 'test')."""
    loader = cfg.get(f'{split}_dataloader') or {}
    found = leaf_configs(loader.get('dataset'), f'{split}_dataloader.dataset')
    return [
        DataSource(key, _kind(DATASETS, each), each)
        for key, each in found
        if isinstance(each.get('ann_file'), str)
    ]


def evaluators(cfg: Config, split: str) -> Iterator[tuple[str, type | None, dict[str, Any]]]:
    """(place, type, settings) of the metrics of a split."""
    key = f'{split}_evaluator'
    metrics = cfg.get(key) or []
    for i, metric in enumerate(metrics if isinstance(metrics, (list, tuple)) else [metrics]):
        if isinstance(metric, dict):
            yield (
                f'{key}[{i}]' if isinstance(metrics, (list, tuple)) else key,
                _kind(METRICS, metric),
                metric,
            )


def making_command(cfg: Any, root: str | None) -> str | None:
    """Command that makes the drawn data set in the folder ``root``; None for other data."""
    options = dict(cfg.get('made_by') or {})
    if not options:
        return None
    words = ['python', f'tools/{options.pop("tool", "make_digits")}.py']
    words += ['--out', root.rstrip('/')] if root else []
    for name, value in options.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        words += [f'--{name.replace("_", "-")}', *map(str, values)]
    return shlex.join(words)


def _kind(registry: Any, settings: dict[str, Any]) -> type | None:
    """The class of a component, or None."""
    kind = settings.get('type')
    if not isinstance(kind, str):
        return kind
    return registry.get(kind) or registry.get(f'mmdet.{kind}')


def _joined(root: str | None, path: str) -> str:
    return path if not root or osp.isabs(path) or '://' in path else osp.join(root, path)
