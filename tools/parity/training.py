"""A training through MMEngine's runner on fixed images, and what it did step by step."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler

State = dict[str, Tensor]


def rank() -> int:
    """Number of this process; 0 if there is one."""
    return int(os.environ.get('RANK', '0')) if torch.distributed.is_initialized() else 0


def run_training(
    model: nn.Module,
    parts: Mapping[str, Any],
    images: Images,
    per_epoch: int,
    batch_size: int,
    work_dir: Path,
    recorder: Recorder,
    chunks: Sequence[int] | None = None,
    **options: Any,
) -> None:
    """Train with the optimizer, schedule and hooks of a config.

    Args:
        model: the detector.
        parts: ``optim_wrapper``, ``train_cfg``, ``param_scheduler``, ``custom_hooks``.
        images: what the network receives.
        per_epoch: number of images of an epoch.
        batch_size: images per iteration.
        work_dir: folder of the runner; its path names the experiment.
        recorder: keeps what the training did.
        chunks: sizes of the slices of a batch, one per process.
        options: more arguments of the runner.
    """
    loader = dict(dataset=images, sampler=dict(type=InOrder, per_epoch=per_epoch), num_workers=0)
    loader['batch_size'] = batch_size
    if chunks:
        loader.update(batch_sampler=dict(type=Slices, sizes=chunks), batch_size=chunks[0])
    name = f'{work_dir.parent.name}_{work_dir.name}_{os.getpid()}'
    wrapper = dict(type='MMDistributedDataParallel', broadcast_buffers=False, device_ids=None)
    Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg=parts['train_cfg'],
        optim_wrapper=parts['optim_wrapper'],
        param_scheduler=parts.get('param_scheduler'),
        default_hooks=dict.fromkeys(('checkpoint', 'logger', 'sampler_seed')),
        custom_hooks=[*(parts.get('custom_hooks') or []), recorder, EpochOrder()],
        default_scope='mmdet',
        log_level='ERROR',
        launcher='pytorch' if chunks else 'none',
        cfg=dict(model_wrapper_cfg=wrapper, experiment_name=name),
        experiment_name=name,
        **options,
    ).train()


class Recorder(Hook):
    """Keeps rates and losses of every iteration, and weights and their average at the snapshots.

    Args:
        snapshots: iterations after which weights are kept.
        ema_updates: updates of the average before the training.
        num_steps: iterations to keep; the training ends with the epoch of the last one. None: all.
    """

    priority = 'LOWEST'

    def __init__(
        self, snapshots: Sequence[int], ema_updates: int = 0, num_steps: int | None = None
    ) -> None:
        self.snapshots, self.ema_updates, self.num_steps = snapshots, ema_updates, num_steps
        self.lr: list[list[float]] = []
        self.momentum: list[list[float]] = []
        self.losses: list[dict[str, float]] = []
        self.states: dict[int, State] = {}
        self.averages: dict[int, State] = {}

    def before_train(self, runner: Runner) -> None:
        """The start, as loaded; the average counts on from the case's first update."""
        self.states[0] = _copy(runner.model.module if runner.distributed else runner.model)
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                hook.ema_model.steps += self.ema_updates

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Rates in force."""
        if self.num_steps is not None and runner.iter >= self.num_steps:
            return
        groups = runner.optim_wrapper.optimizer.param_groups
        self.lr.append([group['lr'] for group in groups])
        self.momentum.append([g['betas'][0] if 'betas' in g else g['momentum'] for g in groups])

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Losses, and weights if this iteration has a snapshot."""
        step = runner.iter + 1
        if self.num_steps is not None and step >= self.num_steps:
            runner.train_loop.stop_training = True
            if step > self.num_steps:
                return
        self.losses.append({name: float(value) for name, value in outputs.items()})
        if step in self.snapshots:
            self.states[step] = _copy(runner.model.module if runner.distributed else runner.model)
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):
                    self.averages[step] = _copy(hook.ema_model.module)


def _copy(model: nn.Module) -> State:
    return {name: value.clone() for name, value in model.state_dict().items()}


class EpochOrder(Hook):
    """Gives the sampler the number of the epoch."""

    def before_train_epoch(self, runner: Runner) -> None:
        """Set the epoch."""
        runner.train_dataloader.sampler.epoch = runner.epoch


class InOrder(Sampler):
    """The images of an epoch in their order; numbers go on from epoch to epoch."""

    def __init__(self, dataset: Dataset, per_epoch: int, seed: int | None = None) -> None:
        self.per_epoch, self.epoch = per_epoch, 0

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.epoch * self.per_epoch, (self.epoch + 1) * self.per_epoch))

    def __len__(self) -> int:
        return self.per_epoch


class Slices(Sampler):
    """Each process takes its slice of every batch, of a size of its own."""

    def __init__(self, sampler: Sampler, batch_size: int, sizes: Sequence[int]) -> None:
        self.sampler, self.sizes, self.batch_size = sampler, sizes, batch_size

    def __iter__(self) -> Iterator[list[int]]:
        numbers, total = list(self.sampler), sum(self.sizes)
        first = sum(self.sizes[: rank()])
        for start in range(0, len(numbers), total):
            yield numbers[start + first : start + first + self.sizes[rank()]]

    def __len__(self) -> int:
        return len(self.sampler) // sum(self.sizes)


class Images(Dataset):
    """Prepared images, from the first one again and again.

    Args:
        item: returns the network input and the sample of an image by its number.
        numbers: of the images, in their order.
    """

    def __init__(self, item: Callable[[int], dict], numbers: Sequence[int]) -> None:
        self.item, self.numbers = item, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> dict:
        return self.item(int(self.numbers[int(index) % len(self.numbers)]))


def sample_of(image: Tensor, **fields: Tensor) -> DetDataSample:
    """The ground truth of a prepared image."""
    shape = tuple(image.shape[1:])
    meta = dict(img_shape=shape, batch_input_shape=shape, pad_shape=shape, scale_factor=(1.0, 1.0))
    return DetDataSample(gt_instances=InstanceData(**fields), metainfo=meta)


class Prepared(nn.Module):
    """Data preprocessor of images that are network inputs already."""

    def forward(self, data: dict, training: bool = False) -> dict:
        """Stack the images of a batch."""
        if 'previous_heatmap' in data:
            self.heatmap = torch.stack(data['previous_heatmap'])
        stacked = {key: torch.stack(data[key]) for key in ('inputs', 'previous') if key in data}
        return {**stacked, 'data_samples': data['data_samples']}
