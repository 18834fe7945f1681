"""Sizes of the training boxes at the input of the network."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmengine.config import Config
from torch import Tensor

from mmdet_losses.engine.data_config import first_leaf, leaf_configs
from mmdet_losses.engine.processes import UsageError
from mmdet_losses.registry import DATASETS


class Resizing(NamedTuple):
    """Resizing of an image to at most ``width`` x ``height`` pixels."""

    width: float
    height: float
    keep_ratio: bool

    def factors(self, width: float, height: float) -> tuple[float, float]:
        """Scale of x and y for an image of this size."""
        x, y = self.width / width, self.height / height
        return (min(x, y),) * 2 if self.keep_ratio else (x, y)


def input_resizing(cfg: Config, size: Sequence[float] | None = None) -> Resizing:
    """Resizing of a config's test pipeline; ``size`` (width, height) replaces its scale.

    Raises:
        UsageError: The pipeline does not resize, and no size is given.
    """
    pipeline = first_leaf(cfg.test_dataloader.dataset).pipeline
    steps = [step for step in pipeline if step['type'] == 'Resize']
    keep_ratio = bool(steps[-1].get('keep_ratio', False)) if steps else True
    scale = size or (steps[-1].get('scale') if steps else None)
    if scale is None:
        raise UsageError('the test pipeline has no Resize with a scale; give --size W H.')
    width, height = scale if isinstance(scale, Sequence) else (scale, scale)
    return Resizing(float(width), float(height), keep_ratio)


def training_box_sizes(cfg: Config, resizing: Resizing) -> Tensor:
    """(N, 2) widths and heights of the valid training boxes, in pixels of the network input.

    Raises:
        UsageError: The training set has no box.
    """
    sizes = []
    for _, settings in leaf_configs(cfg.train_dataloader.dataset):
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
            dataset = DATASETS.build({**settings, 'pipeline': []})
        for i in range(len(dataset)):
            info = dataset.get_data_info(i)
            for image in info.get('images', [info]):  # a video has several images
                x, y = resizing.factors(image['width'], image['height'])
                for each in image['instances']:
                    x1, y1, x2, y2 = each['bbox']
                    if not each.get('ignore_flag') and x2 > x1 and y2 > y1:
                        sizes.append(((x2 - x1) * x, (y2 - y1) * y))
    if not sizes:
        raise UsageError('the training set has no box; check ann_file and the class list.')
    return torch.tensor(sizes, dtype=torch.float64)
