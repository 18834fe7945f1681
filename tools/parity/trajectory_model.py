"""The recipe of a golden case as a network of its size, with weights under the official names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mmdet_losses.registry import MODELS
from tools.parity.trajectory_case import TrajectoryCase
from tools.parity.trajectory_systems import System

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


def recipe(system: System) -> Config:
    """The recipe of a system."""
    (path,) = CONFIGS.glob(system.recipe)
    return Config.fromfile(path)


def build_model(case: TrajectoryCase, system: System, cfg: Config) -> nn.Module:
    """The recipe's detector in the size of the case, without downloaded weights."""
    system.shrink(cfg, case)
    _without_init(cfg.model)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
    model.data_preprocessor = Prepared()
    if 'previous_heatmap' in case.io:
        model.extract_feat = partial(_with_given_heatmap, model, model.extract_feat)
    return model


def _with_given_heatmap(
    model: nn.Module, extract: Callable[..., tuple], image: Tensor, previous: Tensor, drawn: Tensor
) -> tuple:
    """Features from the golden previous heatmap, after a look at the one that the encoder drew.

    Both are float32 and differ by a rounding, which Adam turns into other training steps.
    """
    given = model.data_preprocessor.heatmap
    if (drawn - given).abs().max() > 1e-6:
        raise ValueError('The previous heatmap differs from the golden one by more than 1e-6.')
    return extract(image, previous, given)


def _without_init(node: Any) -> None:
    if isinstance(node, dict):
        node.pop('init_cfg', None)
        for value in node.values():
            _without_init(value)


class Prepared(nn.Module):
    """Data preprocessor of images that are network inputs already."""

    def forward(self, data: dict, training: bool = False) -> dict:
        """Stack the images of a batch."""
        if 'previous_heatmap' in data:
            self.heatmap = torch.stack(data['previous_heatmap'])
        stacked = {key: torch.stack(data[key]) for key in ('inputs', 'previous') if key in data}
        return {**stacked, 'data_samples': data['data_samples']}


def official(
    case: TrajectoryCase, system: System, state: Mapping[str, Tensor]
) -> dict[str, np.ndarray]:
    """Our state under the official names, where all of an official tensor is in ours."""
    return _inverse(case, system)(state)


_INVERSES: dict[tuple[str, int], Callable[[Mapping[str, Tensor]], dict[str, np.ndarray]]] = {}


def _inverse(
    case: TrajectoryCase, system: System
) -> Callable[[Mapping[str, Tensor]], dict[str, np.ndarray]]:
    key = (str(case.folder), id(system))
    if key not in _INVERSES:
        _INVERSES[key] = make_inverse(case, system)
    return _INVERSES[key]


def make_inverse(
    case: TrajectoryCase, system: System
) -> Callable[[Mapping[str, Tensor]], dict[str, np.ndarray]]:
    """The inverse of a conversion, found by converting the numbers of all elements.

    A conversion moves elements and folds biases into running means. Element numbers show where each
    one goes; a second conversion with all biases zero shows it for the running means.
    """
    cfg = recipe(system)
    model = build_model(case, system, cfg).double()
    offsets, total = {}, 1
    for name, shape in case.keys.items():
        offsets[name] = total
        total += int(np.prod(shape, dtype=np.int64))
    numbered = {
        name: torch.arange(offsets[name], offsets[name] + int(np.prod(shape, dtype=np.int64)))
        .reshape(shape)
        .double()
        for name, shape in case.keys.items()
    }
    unbiased = {
        name: torch.zeros_like(value) if name.endswith('bias') else value
        for name, value in numbered.items()
    }
    plain, means = (system.convert(each, model, cfg.model) for each in (numbered, unbiased))

    def back(state: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        flat = np.full(total, np.nan)
        for name, places in plain.items():
            if name.endswith('num_batches_tracked'):
                continue
            places = means[name] if name.endswith('running_mean') else places
            flat[places.reshape(-1).long().numpy()] = state[name].reshape(-1).double().numpy()
        found = {}
        for name, shape in case.keys.items():
            size = int(np.prod(shape, dtype=np.int64))
            values = flat[offsets[name] : offsets[name] + size]
            if size and not np.isnan(values).any() and not name.endswith('num_batches_tracked'):
                found[name] = values.reshape(shape)
        return found

    return back
