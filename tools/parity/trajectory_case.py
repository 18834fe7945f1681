"""Training steps of an official trainer: what goes in, what comes out, and the tolerances.

A folder holds ``meta.json``, ``keys.json``, ``names.json`` and ``io.npz``; the layout and the rule
of comparison are those of the golden data's README.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tools.parity.golden import INPUT
from tools.parity.models import make_weights
from tools.parity.rows import Row, failed, failure

FLOOR = 1e-6
"""A change below this part of a tensor's own norm counts as rounding."""
SINGLE_PUSH = 0.1 * 2**-24 / 1e-4
"""Rounding of the official push term of an image with one object, in the official float64 run too:
it is 0.1 (1 - 1 / 1.0001) / 1e-4 with 1.0001 in float32, a constant without a gradient."""
LIMITS, MEDIANS = (2e-3, 3e-2), (2e-4, 5e-3)
"""Tolerances of the length of a tensor's change and of its stored places; of their medians. All are
for float64; those of float32 are eight times the noise of the official float32 run, if larger."""
LENGTH, WITHIN = 0.02, {'float64': 0.95, 'float32': 0.75}
"""Largest error of any length; share of the tensors that must be within their tolerance."""
NOT_COMPARED = {
    'noise*': 'noise of the official float32 run: the tolerance of float32',
    'grad*': 'gradients: the changes of the weights that they cause are compared',
    '*value': 'weights: their changes are compared',
    'target.*': 'targets: the losses that they cause are compared',
    'chunk_loss': 'losses of the chunks: their mean is compared',
    'ema_*': 'moments of the average: its weights are compared',
    'updated': 'iterations with an update: the changes of the weights are compared',
    **dict.fromkeys(('*images', '*boxes_*', '*labels_*', 'keypoints_*', '*track_ids_*'), INPUT),
    **dict.fromkeys(('previous_heatmap', 'batch_index', 'anchors', 'mean', 'std'), INPUT),
}
"""Pattern of arrays that are not compared -> reason."""
COMPARED = ('lr', 'momentum', 'loss.*', 'after*norm', 'after*change')


class TrajectoryCase:
    """One folder of training steps.

    Args:
        folder: the folder.
        precision: of our training, 'float64' or 'float32'.
    """

    def __init__(self, folder: Path, precision: str = 'float64') -> None:
        self.folder, self.precision = Path(folder), precision
        self.meta = json.loads((self.folder / 'meta.json').read_text())
        self.keys = json.loads((self.folder / 'keys.json').read_text())
        names = json.loads((self.folder / 'names.json').read_text())
        self.row = {name: i for i, name in enumerate(names['tensors'])}
        with np.load(self.folder / 'io.npz') as io:
            self.io = {name: io[name] for name in io.files}
        self.schedule, self.chunks = self.meta['schedule'], self.meta.get('chunk_sizes')
        self.num_steps = len(self.io['lr'])

    def snapshots_of(self, kind: str) -> list[int]:
        """Steps after which weights are stored; ``kind`` is '' or 'ema ' for their average."""
        pattern = rf'after(\d+)\.{kind.replace(" ", "_")}norm'
        return sorted(int(found[1]) for key in self.io if (found := re.fullmatch(pattern, key)))

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
        """(C, h, w) network input, computed in float32 as the official code does.

        Args:
            number: of the image.
            which: 'images', 'previous_images' or 'previous_heatmap'.
        """
        pixels = self.io[which][number].astype(np.float32)
        dtype = getattr(torch, self.precision)
        if which == 'previous_heatmap':
            return torch.from_numpy(pixels).to(dtype)
        mean, std = (self.io[name].reshape(-1, 1, 1) for name in ('mean', 'std'))
        if self.meta['system'].startswith('ssd'):
            return torch.from_numpy(pixels - mean).to(dtype)
        scaled = pixels / np.float32(255)
        return torch.from_numpy((scaled - mean) / std if mean.any() else scaled).to(dtype)

    def ground_truth(self, number: int, prefix: str = '') -> dict[str, Tensor]:
        """Fields of the ground truth of an image; ``prefix='previous_'`` for the frame before."""
        stored = ('boxes', 'labels', 'keypoints', 'track_ids')
        keys = {field: f'{prefix}{field}_{number}' for field in stored}
        given = {k: torch.from_numpy(self.io[key]) for k, key in keys.items() if key in self.io}
        fields = dict(bboxes=given['boxes'], labels=given['labels'].long())
        if 'keypoints' in given:
            points = given['keypoints']
            fields |= dict(keypoints=points[..., :2], keypoints_visible=points[..., 2].long())
        if 'track_ids' in given:
            fields['instances_ids'] = given['track_ids'].long()
        return fields

    # ---------------------------------------------------------------------------- comparison

    def rest(self) -> list[Row]:
        """The arrays that are not compared, by reason; any other array is a failed row."""
        reasons: dict[str, list[str]] = {}
        for name in self.io:
            if not any(fnmatch(name, pattern) for pattern in COMPARED):
                fits = (why for pattern, why in NOT_COMPARED.items() if fnmatch(name, pattern))
                reasons.setdefault(next(fits, ''), []).append(name)
        unused = reasons.pop('', [])
        rows = [failed(self.folder.name, f'{name}: not checked') for name in unused]
        notes = [(', '.join(names), reason) for reason, names in reasons.items()]
        return rows + [Row(self.folder.name, names, 0, 0, '', True, 0, why) for names, why in notes]

    def failures(self, error: Exception) -> list[Row]:
        """Every compared array as a failed row."""
        names = [name for name in self.io if any(fnmatch(name, each) for each in COMPARED)]
        return [failure(self.folder.name, error, name) for name in names]

    def compare(
        self, step: int, kind: str, state: Mapping[str, np.ndarray], start: Mapping[str, np.ndarray]
    ) -> Row:
        """Compare the change of every given tensor with the official one.

        Demanded are the medians over all tensors, most tensors, and the length of every tensor.
        Under Adam, tensors whose gradient is mathematically zero are left out: the division makes
        a full step of any rounding. ``kind`` is '' or 'ema ', for the average of the weights.
        """
        names = [name for name in state if name in self.row and name not in self.without_gradient]
        prefix = f'after{step}.{kind.replace(" ", "_")}'
        errors = np.array([self._errors(prefix, n, state[n], start[n]) for n in names])
        limits, medians, length = self._limits(step, prefix, names)
        ratio = (errors / limits).max(1)
        median, within = np.median(errors, 0), float((ratio <= 1).mean())
        lengths = bool((errors[:, 0] <= length).all())
        ok = bool((median <= medians).all() and within >= WITHIN[self.precision] and lengths)
        text = f'{self.precision} {kind}weights after {step}'
        if not ok:
            worst = int((ratio if lengths else errors[:, 0]).argmax())
            text += f'; {within:.2f} within, worst {names[worst]} ({ratio.max():.1f} x)'
        length, places = (float(value) for value in median)
        return Row(self.folder.name, text, length, places, 'see README', ok)

    def left_out(self, state: Mapping[str, np.ndarray]) -> list[Row]:
        """The official tensors that :meth:`compare` leaves out, and why."""
        absent = [name for name in self.row if name not in state]
        rounding = [name for name in state if name in self.row and name in self.without_gradient]
        reasons = {
            'tensors of the official network that ours lacks or folds into others': absent,
            'tensors without a gradient, whose rounding Adam turns into a step': rounding,
        }
        name = self.folder.name
        return [
            Row(name, ', '.join(names), 0, 0, '', True, 0, why)
            for why, names in reasons.items()
            if names
        ]

    @property
    def without_gradient(self) -> set[str]:
        """Tensors that are not compared, because their gradient is zero under Adam."""
        return set(self.meta['zero_gradient']) if self.is_adam else set()

    @property
    def is_adam(self) -> bool:
        """Whether the trainer uses Adam."""
        return 'betas' in self.meta['optimizer_groups'][0]

    def _limits(
        self, step: int, prefix: str, names: list[str]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tolerances of (tensors, 2) errors, of their (2,) medians, and of each length."""
        limits, medians = np.tile(LIMITS, (len(names), 1)), np.array(MEDIANS)
        if self.precision == 'float64':
            return limits, medians, np.full(len(names), LENGTH)
        noise = prefix.replace('after', 'noise')
        noise = np.stack([self.io[noise + which] for which in ('norm', 'places')], -1)
        typical = np.median(noise, 0)
        if step == 1:
            floors = (2e-4, 5e-4), (5e-5, 2e-4)
        else:
            floors = ((2e-2, 0.6), (5e-3, 0.3)) if self.is_adam else ((5e-3, 5e-2), (1e-3, 2e-2))
        own = noise[[self.row[name] for name in names]]
        limits = np.maximum(8 * np.maximum(own, typical), floors[0])
        medians = np.maximum(8 * typical, floors[1])
        return limits, medians, np.maximum(6 * limits[:, 0], 4 * LENGTH)

    def _errors(
        self, prefix: str, name: str, got: np.ndarray, start: np.ndarray
    ) -> tuple[float, float]:
        """Error of the length of the change, and the largest at the stored places."""
        i = self.row[name]
        change = np.subtract(got, start, dtype=np.float64).reshape(-1)
        norm = float(self.io[f'{prefix}norm'][i])
        size = max(norm, FLOOR * float(self.io[f'{prefix}value_norm'][i]), 1e-30)
        places = np.round(np.linspace(0, change.size - 1, 16)).astype(np.int64)
        gap = np.abs(change[places] - self.io[f'{prefix}change'][i]).max()
        length = abs(float(np.linalg.norm(change)) - norm) / size
        return length, float(gap / (size / change.size**0.5))

    def compare_losses(self, term: str, found: list[float]) -> Row:
        """A term of every step, in units of its tolerance.

        The tolerance is relative to the term or to a fiftieth of the total, whichever is larger.
        In float32 the noise of the official float32 run widens it. Under Adam one flipped maximum
        drives two runs apart by a factor of a hundred within an iteration, and ours may do so one
        iteration before the official one, so the noise of the next iteration counts.
        """
        want, total = self.io[f'loss.{term}'], np.abs(self.io['loss.total'])
        single = self.precision == 'float32'
        later = 2e-2 if single and self.is_adam else 1e-3
        limit = np.where(np.arange(self.num_steps) == 0, 1e-5, later)
        if single:
            noise = np.maximum.accumulate(self.meta['float32_noise']['loss'][term])
            if self.is_adam:
                noise = np.append(noise[1:], noise[-1])
            limit = np.maximum(limit, 8 * noise)
        limit = limit * np.maximum(np.abs(want), 0.02 * total)
        limit += SINGLE_PUSH if term == 'push' else 0.0
        error = np.abs(np.array(found) - want)
        worst = float((error / limit).max())
        largest = float(error.max())
        return Row(
            self.folder.name, f'{self.precision} loss {term}', largest, worst, 1.0, worst <= 1
        )
