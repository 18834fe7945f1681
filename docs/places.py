"""The config that the page of a loss term shows: found in our configs, not listed by hand."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mmdet_losses.registry import MODELS
from tests.cases import LOSSES
from tools.datasets.small_configs import small_configs

BOXES = 'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'
HEATMAPS = 'mmdet::centernet/centernet_r18_8xb16-crop512-140e_coco.py'
STOCK = {
    'BoxIoULoss': (BOXES, 'loss_bbox', {}),
    'PenaltyReducedFocalLoss': (HEATMAPS, 'loss_center_heatmap', {'activated': True}),
}
"""Terms that are shown in a config of MMDetection, with their subclasses."""


class Place(NamedTuple):
    """Where a config uses a term."""

    base: str
    """A config of MMDetection, or a folder of ``configs/``."""
    key: str
    """Argument of the head (MMDetection) or of the criterion (ours)."""
    options: dict[str, Any]
    """Arguments of the term."""

    @property
    def is_stock(self) -> bool:
        """Whether the config is MMDetection's."""
        return '::' in self.base


@cache
def small_config(folder: str) -> Config:
    """The small config of a detector."""
    return Config.fromfile(small_configs()[folder])


def uses(name: str) -> Iterator[Place]:
    """Every place where a criterion of our configs has the term; small configs come first."""
    small = list(small_configs().values())
    others = (path for path in sorted(ROOT.glob('configs/*/*.py')) if path not in small)
    for path in [*small, *(path for path in others if name in path.read_text(encoding='utf-8'))]:
        head = Config.fromfile(path).get('model', {}).get('bbox_head', {})
        for key, term in head.get('criterion', {}).items():
            if isinstance(term, dict) and term.get('type') == name:
                options = {each: value for each, value in term.items() if each != 'type'}
                yield Place(path.parent.name, key, options)


@cache
def place(name: str) -> Place:
    """Where the page of a term shows it.

    MMDetection's config from ``STOCK``; else the first of our configs that has the term; else the
    place of a term whose case in ``tests/cases.py`` has the same inputs.

    Raises:
        LookupError: there is no such place.
    """
    for parent in MODELS.get(name).__mro__:
        if parent.__name__ in STOCK:
            return Place(*STOCK[parent.__name__])
    for found in uses(name):
        return found
    inputs = LOSSES[name].inputs if name in LOSSES else None
    for other, case in LOSSES.items():
        if case.inputs is inputs and case.config['type'] != name:
            base, key, _ = place(other.partition(',')[0])
            return Place(base, key, {})
    raise LookupError(
        f'No config has the term {name}; add one to configs/, or give its case in '
        'tests/cases.py the inputs of another term.'
    )


def snippet(name: str) -> tuple[str, str]:
    """The name of the place of a term, and a config that uses the term there."""
    base, key, options = where = place(name)
    rest = ''.join(f', {each}={value!r}' for each, value in options.items())
    if where.is_stock:
        return "In one of MMDetection's configs", (
            f'_base_ = {base!r}\n\n'
            f'model = dict(\n    bbox_head=dict(\n        {key}=dict(\n'
            f"            _delete_=True, type='mmdet_losses.{name}'{rest}\n        )\n    )\n)"
        )
    # `_delete_` is an error if the base config has no such key.
    delete = '_delete_=True, ' if key in small_config(base).model.bbox_head.criterion else ''
    return f'In `configs/{base}/`', (
        f"_base_ = './{small_configs()[base].name}'\n\n"
        f'model = dict(\n    bbox_head=dict(\n        criterion=dict(\n            {key}=dict(\n'
        f'                {delete}type={name!r}{rest}\n            )\n        )\n    )\n)'
    )
