"""Training steps of our recipes, through MMEngine's runner, against the official trainers'.

A recipe brings its own optimizer, schedule, hooks, average and criterion. Only what the golden case
shrinks is replaced: widths and depths of the network, number of classes, input, and the moments of
the schedule (:data:`SYSTEMS` and :func:`compress` are all of it).
"""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from tools.parity.rows import Row, failure
from tools.parity.trajectory_case import TrajectoryCase
from tools.parity.trajectory_model import build_model, official, recipe
from tools.parity.trajectory_systems import SYSTEMS, System

Terms = dict[str, float]


class Recording(NamedTuple):
    """What a training did, iteration by iteration."""

    lr: list[list[float]]
    momentum: list[list[float]]
    losses: list[Terms]
    states: dict[int, dict[str, Tensor]]
    averages: dict[int, dict[str, Tensor]]


def check_trajectory(folder: Path, precisions: tuple[str, ...] = ('float64',)) -> list[Row] | None:
    """Train a recipe as a golden folder did, and compare; None where no recipe is meant.

    The differences of rates are absolute; those of losses are in units of their tolerance; those
    of weights are the medians of the relative errors of length.
    """
    case = TrajectoryCase(folder)
    system = SYSTEMS.get(case.meta['system'])
    if system is None:
        return None
    rows = []
    for precision in precisions:
        rows += _check(case, system, precision)
    return rows


def _check(case: TrajectoryCase, system: System, precision: str) -> list[Row]:
    name = case.folder.name
    with tempfile.TemporaryDirectory() as work_dir:
        try:
            run = train(case, system, precision, Path(work_dir))
        except Exception as error:
            return [failure(name, error)]
    rows = []
    for quantity, got, want in (
        ('rates', run.lr, case.lr),
        ('momentum', run.momentum, case.momentum),
    ):
        error = np.abs(np.array(got) - want).max() if np.shape(got) == want.shape else np.inf
        rows.append(Row(name, f'{precision} {quantity}', error, error, 1e-12, bool(error < 1e-12)))
    rows += [_loss_row(case, system, precision, term, run.losses) for term in _terms(case)]
    start = official(case, system, run.states[0])
    for states, kind in ((run.states, ''), (run.averages, 'ema ')):
        for step in case.snapshots if states else ():
            verdict = case.compare(
                step, official(case, system, states[step]), start, precision, ema=bool(kind)
            )
            text = f'{precision} {kind}weights after {step}'
            if not verdict.ok:
                text += f'; {verdict.within:.2f} within, worst {verdict.worst}'
            numbers = (verdict.median_length, verdict.median_places)
            rows.append(Row(name, text, *numbers, 'see README', verdict.ok))
    return rows


def _terms(case: TrajectoryCase) -> list[str]:
    return [key.removeprefix('loss.') for key in case.io if key.startswith('loss.')]


def _loss_row(
    case: TrajectoryCase, system: System, precision: str, term: str, losses: list[Terms]
) -> Row:
    worst, absolute = 0.0, 0.0
    for step, found in enumerate(losses, start=1):
        want, limit = case.loss_limit(step, term, precision)
        got = system.losses(found, case.meta).get(term, float('nan'))
        error = abs(got - want)
        worst = max(worst, error / limit) if error == error else float('inf')
        absolute = max(absolute, error)
    return Row(case.folder.name, f'{precision} loss {term}', absolute, worst, 1.0, worst <= 1)


# ----------------------------------------------------------------------------------- training


def train(case: TrajectoryCase, system: System, precision: str, work_dir: Path) -> Recording:
    """Run the recipe of a system on the images of a case.

    A case with chunks runs in one process per chunk; the recording is the first process's, with
    the mean of the losses, as data parallel training has it.
    """
    chunks = case.meta.get('chunk_sizes')
    if not chunks:
        return _train(case, system, precision, work_dir)
    arguments = (len(chunks), str(case.folder), precision, str(work_dir))
    torch.multiprocessing.spawn(_train_chunk, arguments, nprocs=len(chunks), join=True)
    parts = [torch.load(work_dir / f'{rank}.pt', weights_only=False) for rank in range(len(chunks))]
    first = Recording(*parts[0])
    mean = [
        {term: float(np.mean([part[2][k][term] for part in parts])) for term in terms}
        for k, terms in enumerate(first.losses)
    ]
    return first._replace(losses=mean)


def _train_chunk(rank: int, world: int, folder: str, precision: str, work_dir: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world))
    torch.distributed.init_process_group(
        'gloo', f'file://{work_dir}/join', rank=rank, world_size=world
    )
    case = TrajectoryCase(Path(folder))
    run = _train(case, SYSTEMS[case.meta['system']], precision, Path(work_dir))
    torch.save(tuple(run), Path(work_dir) / f'{rank}.pt')
    gc.collect()  # the group must not be freed by the last reference of the model
    torch.distributed.destroy_process_group()


def _train(case: TrajectoryCase, system: System, precision: str, work_dir: Path) -> Recording:
    torch.manual_seed(0)
    cfg = recipe(system)
    model = build_model(case, system, cfg)
    state = system.convert(case.start(), model, cfg.model)
    if precision == 'float64':
        model.double()
    start = work_dir / f'start{_rank()}.pth'
    torch.save(dict(state_dict=state, meta={}), start)
    compress(cfg, case)
    recorder = Recorder(case.snapshots, case.meta['schedule'].get('ema_updates_at_start', 0))
    name = f'{case.folder.name}_{precision}_{os.getpid()}'
    wrapper = dict(type='MMDistributedDataParallel', broadcast_buffers=False, device_ids=None)
    runner = Runner(
        model=model,
        work_dir=str(work_dir / f'run{_rank()}'),
        train_dataloader=_loader(case, cfg, precision),
        train_cfg=cfg.train_cfg,
        optim_wrapper=cfg.optim_wrapper,
        param_scheduler=cfg.get('param_scheduler'),
        default_hooks=dict.fromkeys(('checkpoint', 'logger', 'sampler_seed')),
        custom_hooks=[*(cfg.get('custom_hooks') or []), recorder, EpochOrder()],
        load_from=str(start),
        default_scope='mmdet',
        log_level='ERROR',
        launcher='pytorch' if case.meta.get('chunk_sizes') else 'none',
        cfg=dict(model_wrapper_cfg=wrapper, experiment_name=name),
        experiment_name=name,
    )
    runner.train()
    return recorder.recording


def _loader(case: TrajectoryCase, cfg: Config, precision: str) -> dict:
    """The images of a case in their order; each process takes its chunk of a batch."""
    chunks = case.meta.get('chunk_sizes')
    batch = sum(chunks) if chunks else len(case.images_of(1))
    by_epoch = not cfg.train_cfg.get('max_iters')
    batches = case.meta['schedule'].get('batches_per_epoch', 1) if by_epoch else case.num_steps
    loader = dict(
        dataset=FixedImages(case, getattr(torch, precision)),
        sampler=dict(type=InOrder, per_epoch=batches * batch),
        num_workers=0,
        batch_size=batch,
    )
    if chunks:
        loader.update(batch_sampler=dict(type=Slices, sizes=chunks), batch_size=chunks[0])
    return loader


def _rank() -> int:
    return int(os.environ.get('RANK', '0')) if torch.distributed.is_initialized() else 0


def compress(cfg: Config, case: TrajectoryCase) -> None:
    """Replace the lengths and moments of the recipe's schedule by those of the case."""
    schedule = case.meta['schedule']
    _set_length(cfg.train_cfg, case)
    cfg.train_cfg.pop('dynamic_intervals', None)
    optimizer = cfg.optim_wrapper.optimizer
    if schedule.get('optimizer') == 'sgd' and optimizer.type == 'Adam':
        # CornerNet's own option, which no recipe of ours uses
        cfg.optim_wrapper.optimizer = dict(type='SGD', momentum=0.9, weight_decay=1e-4)
    rate = schedule.get('learning_rate', schedule.get('lr'))
    if rate is not None:
        cfg.optim_wrapper.optimizer.lr = rate
    moments = _moments(schedule)
    for scheduler in cfg.get('param_scheduler') or []:
        if 'milestones' in scheduler:
            scheduler.milestones = moments
            scheduler.pop('end', None)
    for hook in cfg.get('custom_hooks') or []:
        if hook['type'] == 'ScaledYOLOV4ScheduleHook':
            hook.update(
                nominal_batch_size=schedule['nominal_batch_size'],
                warmup_epochs=0,
                warmup_min_iters=schedule['warmup_iterations'],
            )


def _set_length(train_cfg: dict, case: TrajectoryCase) -> None:
    schedule = case.meta['schedule']
    if 'max_iters' in train_cfg:
        train_cfg.update(max_iters=case.num_steps, val_interval=10**9)
    else:
        epochs = schedule.get('epochs', schedule.get('num_epochs', case.num_steps))
        train_cfg.update(max_epochs=epochs, val_interval=10**9)


def _moments(schedule: Mapping[str, Any]) -> list[int]:
    """Iterations or epochs after which the rate drops."""
    if 'stepsize' in schedule:
        return list(range(schedule['stepsize'], schedule['max_iter'] + 1, schedule['stepsize']))
    if 'lr_step' in schedule:
        return [int(each) for each in schedule['lr_step'].split(',')]
    return list(schedule.get('lr_steps', ()))


class Recorder(Hook):
    """Keeps rates and losses of every iteration, and weights at the snapshots."""

    priority = 'LOWEST'

    def __init__(self, snapshots: list[int], ema_updates: int) -> None:
        self.snapshots, self.ema_updates = snapshots, ema_updates
        self.recording = Recording([], [], [], {}, {})

    def before_train(self, runner: Runner) -> None:
        """The start, as loaded; the average counts on from the case's first update."""
        self.recording.states[0] = _state(runner)
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                hook.ema_model.steps += self.ema_updates

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Rates in force."""
        groups = runner.optim_wrapper.optimizer.param_groups
        self.recording.lr.append([group['lr'] for group in groups])
        self.recording.momentum.append(
            [group['betas'][0] if 'betas' in group else group['momentum'] for group in groups]
        )

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Losses, and weights if this iteration has a snapshot."""
        self.recording.losses.append({name: float(value) for name, value in outputs.items()})
        step = runner.iter + 1
        if step not in self.snapshots:
            return
        self.recording.states[step] = _state(runner)
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                average = hook.ema_model.module.state_dict()
                self.recording.averages[step] = {k: v.clone() for k, v in average.items()}


def _state(runner: Runner) -> dict[str, Tensor]:
    model = runner.model.module if runner.distributed else runner.model
    return {name: value.clone() for name, value in model.state_dict().items()}


class EpochOrder(Hook):
    """Tells the sampler which epoch begins."""

    def before_train_epoch(self, runner: Runner) -> None:
        """Set the epoch."""
        runner.train_dataloader.sampler.epoch = runner.epoch


class InOrder(Sampler):
    """The images of an epoch in their order; numbers go on from epoch to epoch."""

    def __init__(self, dataset: Dataset, per_epoch: int, seed: int | None = None) -> None:
        self.per_epoch, self.epoch = per_epoch, 0

    def __iter__(self) -> Any:
        return iter(range(self.epoch * self.per_epoch, (self.epoch + 1) * self.per_epoch))

    def __len__(self) -> int:
        return self.per_epoch


class Slices(Sampler):
    """Each process takes its slice of every batch, of a size of its own."""

    def __init__(self, sampler: Sampler, batch_size: int, sizes: list[int]) -> None:
        self.sampler, self.sizes, self.batch_size = sampler, sizes, batch_size

    def __iter__(self) -> Any:
        numbers, total = list(self.sampler), sum(self.sizes)
        first = sum(self.sizes[: _rank()])
        for start in range(0, len(numbers), total):
            yield numbers[start + first : start + first + self.sizes[_rank()]]

    def __len__(self) -> int:
        return len(self.sampler) // sum(self.sizes)


class FixedImages(Dataset):
    """The images of a case, iteration after iteration, as prepared network inputs."""

    def __init__(self, case: TrajectoryCase, dtype: torch.dtype) -> None:
        self.case, self.dtype = case, dtype
        self.numbers = [i for step in range(1, case.num_steps + 1) for i in case.images_of(step)]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> dict:
        case, number = self.case, int(self.numbers[index % len(self.numbers)])
        image = case.network_input(number).to(self.dtype)
        item = dict(inputs=image, data_samples=_sample(case, number, image))
        if 'previous_images' in case.io:
            item['previous'] = case.network_input(number, 'previous_images').to(self.dtype)
            item['previous_heatmap'] = case.network_input(number, 'previous_heatmap')
            item['data_samples'].previous = _sample(case, number, image, 'previous_')
        return item


def _sample(case: TrajectoryCase, number: int, image: Tensor, prefix: str = '') -> DetDataSample:
    given = case.ground_truth(number, prefix)
    instances = InstanceData(bboxes=given['boxes'], labels=given['labels'].long())
    if 'keypoints' in given:
        instances.keypoints = given['keypoints'][..., :2]
        instances.keypoints_visible = given['keypoints'][..., 2].long()
    if 'track_ids' in given:
        instances.instances_ids = given['track_ids'].long()
    shape = tuple(image.shape[1:])
    meta = dict(img_shape=shape, batch_input_shape=shape, pad_shape=shape, scale_factor=(1.0, 1.0))
    return DetDataSample(gt_instances=instances, metainfo=meta)
