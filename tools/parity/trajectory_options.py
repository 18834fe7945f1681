"""Hyper-parameters of a training case, set in a recipe that has others.

A recipe has the hyper-parameters of the published training, and the cases are run with them. A case
with others (another gain, momentum or norm) is compared with the recipe at these values. The
changes are returned and printed, so a recipe with a wrong value is found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config, ConfigDict

from tools.parity.center_common import BRANCHES

SOLVER = ('betas', 'eps', 'momentum', 'weight_decay', 'nesterov')
DEFAULTS = dict(betas=(0.9, 0.999), eps=1e-8, momentum=0.0, weight_decay=0.0, nesterov=False)
"""Values of torch's optimizers where a recipe has none."""
GAINS = dict(box='box_gain', giou='box_gain', obj='obj_gain', cls='cls_gain')
UNSUPPORTED = dict(cls_pw=1.0, obj_pw=1.0, fl_gamma=0.0)
"""Hyper-parameters of the YOLO codes that have this value in all published trainings."""
WARM_UP = ('warmup_momentum', 'warmup_bias_lr', 'final_fraction')


class CaseOptions:
    """Sets the values of a case in the config of a recipe, which is changed.

    Attributes:
        changes: a line for each value that the recipe has with another one.

    Raises:
        ValueError: the case has a value that no recipe supports.
    """

    def __init__(self, cfg: Config, meta: Mapping[str, Any]) -> None:
        self.changes: list[str] = []
        schedule, hyp = meta['schedule'], meta.get('hyp', {})
        self._solver(cfg, meta, hyp)
        for scheduler in cfg.get('param_scheduler') or []:
            gamma = schedule.get('gamma', 1 / schedule.get('decay_rate', 10))
            self._set(scheduler, gamma=gamma)
        for hook in cfg.get('custom_hooks') or []:
            if hook['type'] == 'ScaledYOLOV4ScheduleHook':
                self._set(hook, **{name: schedule[name] for name in WARM_UP if name in schedule})
        head = cfg.model.bbox_head
        for name, value in UNSUPPORTED.items():
            if hyp.get(name, value) != value:
                raise ValueError(
                    f'{name} of the case is {hyp[name]}; recipes support {value} only.'
                )
        self._set(head.criterion, **{GAINS[name]: hyp[name] for name in GAINS if name in hyp})
        if 'anchor_t' in hyp:
            self._set(head.encoder, anchor_threshold=hyp['anchor_t'])
        for name, value in meta.get('weights', {}).items():
            self._branch(head.criterion, name, value)
        norm = {key: values[0] for key, values in meta.get('batch_norm', {}).items()}
        for node in _norms(cfg.model) if norm else ():
            self._set(node, **norm)

    def _solver(self, cfg: Config, meta: Mapping[str, Any], hyp: Mapping[str, float]) -> None:
        group = {**meta['optimizer_groups'][0], **hyp}  # the groups of YOLO share the decay of hyp
        values = {name: group[name] for name in SOLVER if name in group}
        self._set(cfg.optim_wrapper.optimizer, **values)
        if 'lr0' in hyp:
            self._set(cfg.optim_wrapper.optimizer, lr=hyp['lr0'])

    def _branch(self, criterion: ConfigDict, name: str, weight: float) -> None:
        """The weight of a term of the centre family; offsets of keypoints share that of centres."""
        ours = ['loss_offset', 'loss_keypoint_offset'] if name == 'off' else [_term(name)]
        for each in ours:
            if each in criterion:
                self._set(criterion[each], loss_weight=weight)

    def _set(self, node: Any, **values: Any) -> None:
        for name, value in values.items():
            before = node.get(name, DEFAULTS.get(name))
            if not _equal(before, value):
                node[name] = value
                self.changes.append(f'{name} {value} instead of {before}')


def _term(official: str) -> str:
    return 'loss_keypoints' if official == 'hp' else f'loss_{BRANCHES.get(official, official)}'


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, (list, tuple)):
        return list(a) == list(b)
    return a is not None and math.isclose(a, b, rel_tol=1e-12)


def _norms(node: Any) -> Iterator[ConfigDict]:
    """The ``norm_cfg`` of all parts of a model."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == 'norm_cfg':
                yield value
            else:
                yield from _norms(value)
