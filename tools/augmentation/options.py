"""Options of the official programs, as a file of draws has them, set in the steps of a recipe.

A recipe has the options of the published training. A file that was drawn with others (another
jitter, another share of lost objects) is compared with the recipe's pipeline at these options. The
changes are returned and printed, so a recipe with a wrong option is found.
"""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from collections.abc import Iterable
from typing import Any

from mmengine.config import ConfigDict

from mmdet_losses.registry import TASK_UTILS, TRANSFORMS
from tools.augmentation.recipes import all_steps

# option of the official program -> argument of ours
DARKNET = {
    **{name: name for name in ('jitter', 'resize', 'hue', 'saturation', 'exposure')},
    **{name: name for name in ('letter_box', 'flip', 'mosaic_bound')},
    'max_boxes': 'max_objects',
}
SCALED = {
    'scale': 'scale', 'translate': 'translate', 'mixup': 'mixup',
    'hsv_h': 'hue', 'hsv_s': 'saturation', 'hsv_v': 'value',
}  # fmt: skip
MOTION = {'shift': 'shift', 'scale': 'zoom'}
NOISE = {'hm_disturb': 'center_noise', 'lost_disturb': 'lost_rate', 'fp_disturb': 'false_rate'}
UNSUPPORTED = ('degrees', 'shear', 'perspective', 'flipud')
"""Hyper-parameters of Scaled-YOLOv4 that are zero in all published trainings."""


class Options:
    """Sets options in the steps of a pipeline and in the encoder; both are changed.

    Attributes:
        changes: a line for each argument that the recipe has with another value.
    """

    def __init__(self, steps: list[ConfigDict], encoder: ConfigDict, about: dict[str, Any]) -> None:
        self.steps, self.encoder = list(all_steps(steps)), encoder
        self.changes: list[str] = []
        if 'cfg' in about:
            self._darknet(about['cfg'])
        if 'hyp' in about:
            self._scaled(about['hyp'])
        if found := re.search(r'mean=(\([^)]*\))', about.get('function', '')):
            mean = list(ast.literal_eval(found[1]))[::-1]
            self._set(self._named('SSDAugmentation'), {'mean': mean})
        if about.get('options', '').startswith('tracking'):
            self._track(_flags(about['options']))

    def _darknet(self, cfg: dict[str, Any]) -> None:
        if not cfg.get('mosaic', 1):
            for step in self._named('DarknetMosaic'):
                step.type = 'DarknetJitter'
                self.changes.append('DarknetMosaic -> DarknetJitter')
        self._set(self._named('Darknet', 'Redmon'), _renamed(cfg, DARKNET))

    def _scaled(self, hyp: dict[str, Any]) -> None:
        for name in UNSUPPORTED:
            if hyp.get(name):
                raise ValueError(f'ScaledYOLOv4Mosaic has no {name}, but the file has {hyp[name]}.')
        self._set(self._named('ScaledYOLOv4'), _renamed(hyp, SCALED))
        self._set(self._named('RandomFlip'), {'prob': hyp.get('fliplr', 0.5)})

    def _track(self, flags: dict[str, str]) -> None:
        zero = dict.fromkeys((*MOTION, *NOISE), 0.0)
        values = {name: float(flags.get(name, 0)) for name in zero}
        self._set([self.encoder], _renamed(values, NOISE))
        [sample] = self._named('SamplePair')
        motion: dict[str, Any] = _renamed(values, MOTION)
        if tuple(sample.get('gaps', ())) != (0,):
            reach = int(flags.get('max_frame_dist', 3))
            self._set([sample], {'gaps': tuple(range(1 - reach, reach))})
            motion['same_map'] = 'same_aug' in flags
        self._set(self._named('PairAffine'), motion)

    def _named(self, *beginnings: str) -> list[ConfigDict]:
        return [step for step in self.steps if step.type.startswith(beginnings)]

    def _set(self, parts: Iterable[ConfigDict], options: dict[str, Any]) -> None:
        for part in parts:
            known = _defaults(part.type)
            for name in options.keys() & known.keys():
                old, new = part.get(name, known[name]), options[name]
                if _plain(old) != _plain(new):
                    self.changes.append(f'{part.type}: {name} {old} -> {new}')
                    part[name] = new


def _renamed(options: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names[key]: value for key, value in options.items() if key in names}


def _plain(value: Any) -> Any:
    """A list for a tuple; numbers and flags compare equal anyway (1 and True)."""
    return list(value) if isinstance(value, (list, tuple)) else value


def _defaults(name: str) -> dict[str, Any]:
    """Arguments of a registered class and of its bases, with their defaults."""
    kind = TRANSFORMS.get(name) or TASK_UTILS.get(name)
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if '__init__' in vars(base):
            parameters = inspect.signature(base).parameters
            found.update({key: each.default for key, each in parameters.items()})
    return found


def _flags(text: str) -> dict[str, str]:
    """``--name value`` pairs of a command line; '' for a flag without value."""
    words = shlex.split(text)
    return {
        word[2:]: '' if after.startswith('--') else after
        for word, after in zip(words, [*words[1:], '--'], strict=True)
        if word.startswith('--')
    }
