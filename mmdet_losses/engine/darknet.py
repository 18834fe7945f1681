"""Training of darknet: its learning rate, and its average of the weights.

Darknet's update is ``torch.optim.SGD`` with momentum, decay on kernels only, and the gradient of
the batch divided by its images. Subdivisions are MMEngine's ``accumulative_counts``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import is_distributed
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import _ParamScheduler
from mmengine.optim.scheduler.param_scheduler import OptimizerType
from mmengine.runner import Runner

from mmdet_losses.registry import HOOKS, PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class DarknetLR(_ParamScheduler):
    r"""Learning rate of darknet's ``policy=steps``, with its burn-in.

    Update t = 1, 2, ... has the rate :math:`lr (t / b)^p` while :math:`t < b`, then ``lr`` times
    the scales of all steps that are at most t. The names are those of the section ``[net]``.

    Args:
        optimizer: the optimizer or its wrapper.
        burn_in: b, number of updates.
        power: p.
        steps: updates at which the rate changes.
        scales: factor of each step.
        subdivisions: iterations per update (``accumulative_counts`` of the wrapper).
        end: unused; MMEngine's runner passes the length of the training.
        last_step: see MMEngine.
        verbose: see MMEngine.

    Raises:
        ValueError: ``steps`` and ``scales`` differ in length, or ``by_epoch`` is True.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> rate = DarknetLR(optimizer, burn_in=2, steps=[3], scales=[0.1])
        >>> rates = []
        >>> for _ in range(3):
        ...     rates.append(optimizer.param_groups[0]['lr'])
        ...     optimizer.step()
        ...     rate.step()
        >>> rates
        [0.0625, 1.0, 0.1]
    """

    def __init__(
        self,
        optimizer: OptimizerType,
        burn_in: int = 0,
        power: float = 4.0,
        steps: Sequence[int] = (),
        scales: Sequence[float] = (),
        subdivisions: int = 1,
        by_epoch: bool = False,
        end: int | None = None,
        last_step: int = -1,
        verbose: bool = False,
    ) -> None:
        if by_epoch:
            raise ValueError('DarknetLR counts updates, not epochs; remove by_epoch=True.')
        if len(steps) != len(scales):
            raise ValueError(
                f'steps has {len(steps)} entries but scales {len(scales)}; give one scale per step.'
            )
        self.burn_in, self.power = burn_in, power
        self.steps, self.scales = tuple(steps), tuple(scales)
        self.subdivisions = subdivisions
        super().__init__(optimizer, 'lr', by_epoch=False, last_step=last_step, verbose=verbose)

    def factor(self, update: int) -> float:
        """The rate of an update (from 1) relative to ``lr``."""
        if update < self.burn_in:
            return (update / self.burn_in) ** self.power
        return math.prod(
            scale for step, scale in zip(self.steps, self.scales, strict=True) if step <= update
        )

    def state_dict(self) -> dict:
        """The counters alone: a resumed run takes the steps of its config."""
        return {
            key: value
            for key, value in super().state_dict().items()
            if key in ('last_step', '_global_step', '_last_value')
        }

    def _get_value(self) -> list[float]:
        factor = self.factor(self.last_step // self.subdivisions + 1)
        return [base * factor for base in self.base_values]


@HOOKS.register_module()
class DarknetEMAHook(EMAHook):
    """Average of the weights over the second half of training (``ema_alpha`` of ``[net]``).

    The average starts as a copy after half of the iterations, is updated per iteration, and
    replaces the weights ``apply_before_end`` iterations before the end; the rest of the training
    continues from it, so that the running statistics fit. Only parameters are averaged.

    Args:
        alpha: share of the average that an update keeps; darknet's cfgs have 0.9998.
        apply_before_end: iterations between the replacement and the end.

    Reference:
        ``train_network_waitkey`` of AlexeyAB's darknet, read, not run.
    """

    def __init__(self, alpha: float = 0.9998, apply_before_end: int = 1000, **kwargs: Any) -> None:
        super().__init__(
            ema_type='ExponentialMovingAverage', momentum=1 - alpha, begin_iter=1, **kwargs
        )
        self.apply_before_end = apply_before_end

    def before_run(self, runner: Runner) -> None:
        """Derive the two moments from the length of the training."""
        super().before_run(runner)
        self.begin_iter = runner.max_iters // 2
        self.apply_iter = runner.max_iters - self.apply_before_end - 1
        if self.apply_iter < self.begin_iter:
            raise ValueError(
                f'A training of {runner.max_iters} iterations is too short for an average that is '
                f'applied {self.apply_before_end} iterations before the end; lower '
                'apply_before_end.'
            )

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Update the average, or replace the weights by it, or leave both alone."""
        if runner.iter < self.apply_iter:
            super().after_train_iter(runner, batch_idx, data_batch, outputs)
        elif runner.iter == self.apply_iter:
            with torch.no_grad():
                average = dict(self.ema_model.module.named_parameters())
                for name, weight in self.src_model.named_parameters():
                    weight.copy_(average[name])

    def _swap_ema_parameters(self) -> None:
        """Darknet validates and saves the weights themselves, not their average."""

    def _swap_ema_state_dict(self, checkpoint: dict) -> None:
        """See above."""


@HOOKS.register_module()
class UnfreezeHook(Hook):
    """Trains all layers of a backbone of this package from an iteration on.

    darknet's ``stopbackward=n`` with n above 1 freezes the first layers for n updates.

    Args:
        iteration: the first iteration that trains all layers.

    Raises:
        RuntimeError: training in several processes, where the set of trained weights is fixed.
    """

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def before_train(self, runner: Runner) -> None:
        """Check the number of processes."""
        if is_distributed():
            raise RuntimeError(
                'UnfreezeHook does not support several processes; remove it and frozen_stages, or '
                'train the two stages one after the other.'
            )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | tuple | list | None = None
    ) -> None:
        """Unfreeze once."""
        backbone: Any = runner.model.backbone
        if backbone.num_frozen and runner.iter >= self.iteration:
            backbone.freeze(0)
