"""Training of the PyTorch codes of YOLOv4: parameter groups, accumulation, schedule and average.

The repositories ScaledYOLOv4 (both branches) and PyTorch_YOLOv4 share one trainer. Its parts:

* three parameter groups, decay on kernels only (:class:`KernelDecayOptimWrapperConstructor`),
* gradients summed up to a nominal batch (:class:`NominalBatchOptimWrapper`),
* warm-up, cosine, momentum and decay in closed form (:class:`ScaledYOLOV4ScheduleHook`),
* an average of weights and statistics per update (:class:`ScaledYOLOV4EMA`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from mmdet.models.layers import ExpMomentumEMA
from mmengine.dist import get_world_size
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIMIZERS
from mmengine.runner import Runner
from torch import Tensor, nn

from mmdet_losses.registry import (
    HOOKS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
)

OTHERS, KERNELS, BIASES = range(3)
"""Order of the parameter groups, as in the official code."""


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class KernelDecayOptimWrapperConstructor:
    """Optimizer with three parameter groups: norm weights, kernels, biases.

    Only kernels (parameters of at least two dimensions) are decayed. The biases of norms are in the
    third group, with those of convolutions. A group records its decay in ``initial_weight_decay``.

    Args:
        optim_wrapper_cfg: the wrapper's config with the key ``optimizer``.
        paramwise_cfg: must be None; the groups leave nothing to set.

    Raises:
        ValueError: ``paramwise_cfg`` is given.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        if paramwise_cfg:
            raise ValueError(
                f'paramwise_cfg is {paramwise_cfg}, but KernelDecayOptimWrapperConstructor makes '
                'its own parameter groups; remove paramwise_cfg from optim_wrapper.'
            )
        self.wrapper_cfg = dict(optim_wrapper_cfg)
        self.optimizer_cfg = dict(self.wrapper_cfg.pop('optimizer'))

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """The optimizer wrapper over the parameters of ``model`` that are trained."""
        groups: list[list[nn.Parameter]] = [[], [], []]
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            if name.rpartition('.')[2] == 'bias':
                groups[BIASES].append(parameter)
            else:
                groups[KERNELS if parameter.dim() > 1 else OTHERS].append(parameter)
        decay = self.optimizer_cfg.pop('weight_decay', 0.0)
        params: list[dict[str, Any]] = [dict(params=group, weight_decay=0.0) for group in groups]
        params[KERNELS].update(weight_decay=decay, initial_weight_decay=decay)
        optimizer = OPTIMIZERS.build({**self.optimizer_cfg, 'params': params})
        wrapper = {'type': 'OptimWrapper', **self.wrapper_cfg}
        return OPTIM_WRAPPERS.build(wrapper, default_args=dict(optimizer=optimizer))


class _NominalBatch(OptimWrapper):
    """Gradients are summed over ``accumulate`` iterations, which a hook sets per iteration.

    MMEngine's ``accumulative_counts`` averages them, is fixed, and steps at the end of training.
    """

    accumulate = 1
    iteration = 0

    def scale_loss(self, loss: Tensor) -> Tensor:
        """The loss itself: gradients of several iterations add up."""
        return loss

    def should_update(self) -> bool:
        """Whether the current iteration ends with a step of the optimizer."""
        return self.iteration % self.accumulate == 0

    def should_sync(self) -> bool:
        """Always: as in the official code, processes average the gradients of each iteration."""
        return True


@OPTIM_WRAPPERS.register_module()
class NominalBatchOptimWrapper(_NominalBatch):
    """``OptimWrapper`` that sums gradients; see :class:`ScaledYOLOV4ScheduleHook`."""


@OPTIM_WRAPPERS.register_module()
class NominalBatchAmpOptimWrapper(_NominalBatch, AmpOptimWrapper):
    """``AmpOptimWrapper`` that sums gradients; see :class:`ScaledYOLOV4ScheduleHook`."""


@HOOKS.register_module()
class ScaledYOLOV4ScheduleHook(Hook):
    r"""Rate, momentum, decay and accumulation of the PyTorch codes of YOLOv4, in closed form.

    Let i count iterations from 0, e epochs from 0, n iterations per epoch, E epochs, B images per
    iteration over all processes, N = ``nominal_batch_size``, f = ``final_fraction`` and

    .. math:: c(x) = \frac{1 + \cos(\pi x / E)}{2} (1 - f) + f

    Convention:
        Warm-up, while :math:`i \le w = \max(3 n, 1000)`: the rates of kernels and norm weights
        rise from 0 and those of biases fall from ``warmup_bias_lr`` to :math:`lr \cdot c(e)`,
        linearly. Momentum rises from ``warmup_momentum``, and the number of iterations per update
        from 1 to N / B. After the warm-up the rate is :math:`lr \cdot c(\max(e - 1, 0))`: one
        value per epoch, and one epoch late. The decay of kernels is multiplied by B a / N, with
        a = max(round(N / B), 1). Gradients that are left over at the end of an epoch are dropped.
        Everything is computed from the iteration: a resumed run continues the same curve, and a
        longer ``max_epochs`` changes it at once.

    Args:
        nominal_batch_size: images per update.
        final_fraction: rate of the last epoch relative to the first.
        warmup_epochs, warmup_min_iters: length of the warm-up, the longer of both.
        warmup_bias_lr, warmup_momentum: values of iteration 0.

    Raises:
        ValueError: the optimizer wrapper or the train loop has another type than the schedule
            needs.

    Reference:
        Wang et al., *Scaled-YOLOv4*, 2021; the training script of its code.
    """

    priority = 'HIGHEST'  # before MMEngine's hook that logs the rates

    def __init__(
        self,
        nominal_batch_size: int = 64,
        final_fraction: float = 0.2,
        warmup_epochs: int = 3,
        warmup_min_iters: int = 1000,
        warmup_bias_lr: float = 0.1,
        warmup_momentum: float = 0.9,
    ) -> None:
        self.nominal_batch_size = nominal_batch_size
        self.final_fraction = final_fraction
        self.warmup_epochs, self.warmup_min_iters = warmup_epochs, warmup_min_iters
        self.warmup_bias_lr, self.warmup_momentum = warmup_bias_lr, warmup_momentum

    def before_train(self, runner: Runner) -> None:
        """Scale the decay, and check that wrapper and loop fit."""
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, _NominalBatch):
            raise ValueError(
                f'ScaledYOLOV4ScheduleHook needs optim_wrapper.type=NominalBatchOptimWrapper (or '
                f'NominalBatchAmpOptimWrapper), but it is {type(wrapper).__name__}.'
            )
        if len(wrapper.optimizer.param_groups) != 3:
            raise ValueError(
                f'ScaledYOLOV4ScheduleHook needs the three parameter groups of optim_wrapper.'
                f'constructor=KernelDecayOptimWrapperConstructor, but there are '
                f'{len(wrapper.optimizer.param_groups)}.'
            )
        if not runner.max_epochs:
            raise ValueError(
                'ScaledYOLOV4ScheduleHook counts epochs; set train_cfg.type=EpochBasedTrainLoop.'
            )
        loader = runner.train_dataloader
        batch = loader.batch_sampler.batch_size * get_world_size()
        self._ratio = self.nominal_batch_size / batch
        self._warmup = max(self.warmup_epochs * len(loader), self.warmup_min_iters)
        self._lr = wrapper.optimizer.defaults['lr']
        self._momentum = wrapper.optimizer.defaults['momentum']
        steps = max(round(self._ratio), 1)
        kernels = wrapper.param_groups[KERNELS]
        kernels['weight_decay'] = kernels['initial_weight_decay'] * steps / self._ratio

    def before_train_epoch(self, runner: Runner) -> None:
        """Drop the gradients that the last epoch left."""
        runner.optim_wrapper.zero_grad()

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | tuple | list | None = None
    ) -> None:
        """Set what the iteration trains with."""
        wrapper, i = runner.optim_wrapper, runner.iter
        share = min(i / self._warmup, 1.0)
        wrapper.iteration = i
        wrapper.accumulate = max(1, round(1 + share * (self._ratio - 1)))
        warm = i <= self._warmup
        epoch = runner.epoch if warm else max(runner.epoch - 1, 0)
        lr = self._lr * self.cosine(epoch, runner.max_epochs)
        for index, group in enumerate(wrapper.param_groups):
            start = self.warmup_bias_lr if index == BIASES else 0.0
            group['lr'] = start + share * (lr - start) if warm else lr
            group['momentum'] = self.warmup_momentum + share * (
                self._momentum - self.warmup_momentum
            )

    def cosine(self, epoch: int, max_epochs: int) -> float:
        """The factor c of an epoch."""
        curve = (1 + math.cos(math.pi * epoch / max_epochs)) / 2
        return curve * (1 - self.final_fraction) + self.final_fraction


@MODELS.register_module()
class ScaledYOLOV4EMA(ExpMomentumEMA):
    """``ExpMomentumEMA`` whose first update averages too; MMEngine's first update copies.

    Update u = 1, 2, ... keeps the share :math:`0.9999 (1 - \\exp(-u / 2000))` of the average, with
    ``momentum=1e-4`` and ``gamma=2000``. Running statistics are averaged with
    ``update_buffers=True``.
    """

    def update_parameters(self, model: nn.Module) -> None:
        """Move the average towards the weights of ``model``."""
        if int(self.steps) == 0:
            with torch.no_grad():
                source = (
                    model.state_dict() if self.update_buffers else dict(model.named_parameters())
                )
                for name, average in self.avg_parameters.items():
                    if average.dtype.is_floating_point:
                        self.avg_func(average.data, source[name].data.to(average.device), 0)
            self.steps += 1
        else:
            super().update_parameters(model)


@HOOKS.register_module()
class UpdateEMAHook(EMAHook):
    """``EMAHook`` that updates the average per step of the optimizer, not per iteration."""

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Update the average if the iteration ended with a step."""
        if runner.optim_wrapper.should_update():
            super().after_train_iter(runner, batch_idx, data_batch, outputs)
