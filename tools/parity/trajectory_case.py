"""Training steps of an official trainer: what goes in, what comes out, and how far off we may be.

A folder holds ``meta.json``, ``keys.json``, ``names.json`` and ``io.npz``; the layout and the rule
of comparison are those of the golden data's README.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tools.parity.models import make_weights

FLOOR = 1e-6
"""A change below this part of a tensor's own norm counts as rounding."""
SINGLE_PUSH = 0.1 * 2**-24 / 1e-4
"""Rounding of the official push term of an image with one object, in the official float64 run too:
it is 0.1 (1 - 1 / 1.0001) / 1e-4 with 1.0001 in float32, a constant without a gradient."""
ALL_WITHIN = {'float64': 0.95, 'float32': 0.75}
"""Share of the tensors that must be within their tolerance."""


class Verdict(NamedTuple):
    """Result of a comparison of weights."""

    median_length: float
    median_places: float
    within: float
    """Share of tensors within their tolerance."""
    worst: str
    """Tensor with the largest error relative to its tolerance."""
    ok: bool


class TrajectoryCase:
    """One folder of training steps.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.meta = json.loads((self.folder / 'meta.json').read_text())
        self.keys = json.loads((self.folder / 'keys.json').read_text())
        names = json.loads((self.folder / 'names.json').read_text())
        self.row = {name: i for i, name in enumerate(names['tensors'])}
        with np.load(self.folder / 'io.npz') as io:
            self.io = {name: io[name] for name in io.files}
        self.lr, self.momentum = self.io['lr'], self.io['momentum']
        self.num_steps = len(self.lr)
        self.snapshots = [n for n in (1, 3, 6) if f'after{n}.norm' in self.io]
        self.is_adam = 'betas' in self.meta['optimizer_groups'][0]

    def start(self) -> dict[str, Tensor]:
        """Official name -> weights before the first iteration."""
        state = make_weights(self.keys, self.meta)
        for name in state:
            for pattern, value in self.meta['shift']:
                if re.search(pattern, name):
                    state[name] = state[name] + np.float32(value)
        return state

    def images_of(self, step: int) -> np.ndarray:
        """Numbers of the images of a step, from 1."""
        if 'batch_index' in self.io:
            return self.io['batch_index'][step - 1]
        return np.arange(len(self.io['images']))

    def network_input(self, number: int, which: str = 'images') -> Tensor:
        """(C, h, w) float32 network input, computed in float32 as the official code does.

        Args:
            number: of the image.
            which: 'images', 'previous_images' or 'previous_heatmap'.
        """
        pixels = self.io[which][number].astype(np.float32)
        if which == 'previous_heatmap':
            return torch.from_numpy(pixels)
        mean, std = (self.io[name].reshape(-1, 1, 1) for name in ('mean', 'std'))
        if self.meta['system'].startswith('ssd'):
            return torch.from_numpy(pixels - mean)
        scaled = pixels / np.float32(255)
        return torch.from_numpy((scaled - mean) / std if mean.any() else scaled)

    def ground_truth(self, number: int, prefix: str = '') -> dict[str, Tensor]:
        """Field -> array of one image; ``prefix='previous_'`` for the frame before."""
        fields = ('boxes', 'labels', 'keypoints', 'track_ids')
        return {
            field: torch.from_numpy(self.io[f'{prefix}{field}_{number}'])
            for field in fields
            if f'{prefix}{field}_{number}' in self.io
        }

    # ---------------------------------------------------------------------------- comparison

    def compare(
        self,
        step: int,
        state: Mapping[str, np.ndarray],
        start: Mapping[str, np.ndarray],
        precision: str,
        ema: bool = False,
    ) -> Verdict:
        """Compare the change of every given tensor with the official one.

        Demanded are the medians over all tensors, most tensors, and the length of every tensor.
        Under Adam, tensors whose gradient is mathematically zero are left out: the division makes
        a full step of any rounding.
        """
        prefix = 'ema_' if ema else ''
        skip = set(self.meta['zero_gradient']) if self.is_adam else set()
        names = [name for name in state if name in self.row and name not in skip]
        errors = np.array([self._errors(step, n, state[n], start[n], prefix) for n in names])
        limits = np.array([self._limits(step, name, prefix, precision) for name in names])
        ratio = (errors / limits).max(1)
        median = np.median(errors, 0)
        allowed, factor, least = self._allowed(step, prefix, precision)
        lengths = errors[:, 0] <= np.maximum(factor * limits[:, 0], least)
        within = float((ratio <= 1).mean())
        worst = names[int(ratio.argmax())]
        ok = bool((median <= allowed).all() and within >= ALL_WITHIN[precision] and lengths.all())
        if not lengths.all():
            worst = names[int(np.where(lengths, 0, errors[:, 0]).argmax())]
        text = f'{worst} ({ratio.max():.1f} x its tolerance)'
        return Verdict(float(median[0]), float(median[1]), within, text, ok)

    def _errors(
        self, step: int, name: str, got: np.ndarray, start: np.ndarray, prefix: str
    ) -> tuple[float, float]:
        """Error of the length of the change, and the largest at the stored places."""
        i = self.row[name]
        got, start = (np.asarray(each, np.float64).reshape(-1) for each in (got, start))
        change = got - start
        norm = float(self.io[f'after{step}.{prefix}norm'][i])
        size = max(norm, FLOOR * float(self.io[f'after{step}.{prefix}value_norm'][i]), 1e-30)
        places = np.round(np.linspace(0, change.size - 1, 16)).astype(np.int64)
        gap = np.abs(change[places] - self.io[f'after{step}.{prefix}change'][i]).max()
        length = abs(float(np.linalg.norm(change)) - norm) / size
        return length, float(gap / (size / change.size**0.5))

    def _floors(self, step: int) -> tuple[tuple[float, float], tuple[float, float]]:
        """Least tolerances in float32: of the medians, of a tensor; length and places each."""
        if step == 1:
            return (5e-5, 2e-4), (2e-4, 5e-4)
        return ((5e-3, 0.3), (2e-2, 0.6)) if self.is_adam else ((1e-3, 2e-2), (5e-3, 5e-2))

    def _limits(self, step: int, name: str, prefix: str, precision: str) -> tuple[float, float]:
        if precision == 'float64':
            return 2e-3, 3e-2
        limits = []
        for which, floor in zip(('norm', 'places'), self._floors(step)[1], strict=True):
            noise = self.io[f'noise{step}.{prefix}{which}']
            limits.append(max(8 * max(noise[self.row[name]], np.median(noise)), floor))
        return limits[0], limits[1]

    def _allowed(
        self, step: int, prefix: str, precision: str
    ) -> tuple[tuple[float, float], float, float]:
        """Limits of the medians; factor and least limit of each length."""
        if precision == 'float64':
            return (2e-4, 5e-3), 1.0, 0.02
        noise = [np.median(self.io[f'noise{step}.{prefix}{w}']) for w in ('norm', 'places')]
        floors = self._floors(step)[0]
        medians = [max(8 * float(n), floor) for n, floor in zip(noise, floors, strict=True)]
        return (medians[0], medians[1]), 6.0, 0.08

    def loss_limit(self, step: int, term: str, precision: str) -> tuple[float, float]:
        """Golden value of a term, and the largest absolute error allowed.

        The limit is relative to the term or to a fiftieth of the total, whichever is larger.
        """
        want = float(self.io[f'loss.{term}'][step - 1])
        total = abs(float(self.io['loss.total'][step - 1]))
        if precision == 'float64':
            limit = 1e-5 if step == 1 else 1e-3
        else:
            noise = max(self.meta['float32_noise']['loss'][term][:step])
            limit = max(8 * noise, 1e-5 if step == 1 else 2e-2 if self.is_adam else 1e-3)
        limit *= max(abs(want), 0.02 * total)
        return want, limit + (SINGLE_PUSH if term == 'push' else 0.0)
