"""Training steps of our recipes, through MMEngine's runner, against the official trainers'.

A recipe brings its own optimizer, schedule, hooks, average and criterion. Only what the golden case
shrinks is replaced: widths and depths of the network, number of classes, input, and the moments of
the schedule (:mod:`~tools.parity.trajectory_systems` and :func:`compress` are all of it).
Hyper-parameters in which a case differs from the recipe are set and printed.
"""

from __future__ import annotations

import gc
import os
import tempfile
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
from tools.parity.models import CONFIGS
from tools.parity.rows import Row, failed
from tools.parity.training import Images, Prepared, Recorder, rank, run_training, sample_of
from tools.parity.trajectory_case import TrajectoryCase
from tools.parity.trajectory_options import CaseOptions
from tools.parity.trajectory_systems import System, system_of

Official = dict[str, np.ndarray]


def recipe(system: System) -> Config:
    """The recipe of a system."""
    (path,) = CONFIGS.glob(system.recipe)
    return Config.fromfile(path)


def check_trajectory(folder: Path, precision: str = 'float64') -> list[Row] | None:
    """Train a recipe as a golden folder did, and compare; None where no recipe is meant.

    The differences of rates are absolute; those of losses are in units of their tolerance; those
    of weights are the medians of the relative errors of length.
    """
    case = TrajectoryCase(folder, precision)
    system = system_of(case.meta)
    if system is None:
        return None
    name, rows = case.folder.name, []
    if changes := case_config(case, system)[1]:
        print(f'{name}: trained with the values of the case: {"; ".join(changes)}')
    with tempfile.TemporaryDirectory() as work_dir:
        try:
            run = train(case, system, Path(work_dir))
        except Exception as error:
            return case.failures(error)
    for quantity, key, got in (('rates', 'lr', run.lr), ('momentum', 'momentum', run.momentum)):
        want = case.io[key]
        error = np.abs(np.array(got) - want).max() if np.shape(got) == want.shape else np.inf
        rows.append(Row(name, f'{precision} {quantity}', error, error, 1e-12, bool(error < 1e-12)))
    losses = [system.losses(found, case.meta) for found in run.losses]
    for key in case.io:
        if key.startswith('loss.'):
            term = key.removeprefix('loss.')
            found = [each.get(term, float('nan')) for each in losses]
            rows.append(case.compare_losses(term, found))
    official = make_inverse(case, system)
    start = official(run.states[0])
    for kind, states in (('', run.states), ('ema ', run.averages)):
        for step in case.snapshots_of(kind):
            if step in states:
                rows.append(case.compare(step, kind, official(states[step]), start))
            else:
                rows.append(failed(name, f'{kind}weights after {step}: the recipe has none'))
    return rows + case.left_out(start) + case.rest()


# ----------------------------------------------------------------------------------- training


def train(case: TrajectoryCase, system: System, work_dir: Path) -> Recorder:
    """Run the recipe of a system on the images of a case.

    A case with chunks runs in one process per chunk; the recording is the first process's, with
    the mean of the losses, as data parallel training has it.
    """
    if not case.chunks:
        return _train(case, system, work_dir)
    world = len(case.chunks)
    arguments = (world, str(case.folder), case.precision, str(work_dir))
    torch.multiprocessing.spawn(_train_chunk, arguments, nprocs=world, join=True)
    parts = [torch.load(work_dir / f'{number}.pt', weights_only=False) for number in range(world)]
    parts[0].losses = [
        {term: float(np.mean([step[term] for step in steps])) for term in steps[0]}
        for steps in zip(*(part.losses for part in parts), strict=True)
    ]
    return parts[0]


def _train_chunk(number: int, world: int, folder: str, precision: str, work_dir: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(number), LOCAL_RANK=str(number), WORLD_SIZE=str(world))
    meeting = f'file://{work_dir}/join'
    torch.distributed.init_process_group('gloo', meeting, rank=number, world_size=world)
    case = TrajectoryCase(Path(folder), precision)
    system = system_of(case.meta)
    assert system is not None
    run = _train(case, system, Path(work_dir))
    torch.save(run, Path(work_dir) / f'{number}.pt')
    gc.collect()  # the group must not be freed by the last reference of the model
    torch.distributed.destroy_process_group()


def _train(case: TrajectoryCase, system: System, work_dir: Path) -> Recorder:
    torch.manual_seed(0)
    cfg, _ = case_config(case, system)
    model = build_model(case, system, cfg)
    start = work_dir / f'start{rank()}.pth'
    torch.save(dict(state_dict=system.convert(case.start(), model, cfg.model), meta={}), start)
    batch = sum(case.chunks) if case.chunks else len(case.images_of(1))
    by_epoch = not cfg.train_cfg.get('max_iters')
    batches = batches_of(case, by_epoch)
    numbers = [i for step in range(1, case.num_steps + 1) for i in case.images_of(step)]
    updates = case.schedule.get('ema_updates_at_start', 0)
    recorder = Recorder(case.snapshots_of(''), updates, case.num_steps)
    run_training(
        model.to(getattr(torch, case.precision)),
        cfg,
        Images(partial(_item, case), numbers),
        batches * batch,
        batch,
        work_dir / f'run{rank()}',
        recorder,
        case.chunks,
        load_from=str(start),
    )
    return recorder


def batches_of(case: TrajectoryCase, by_epoch: bool) -> int:
    """Iterations of an epoch; a training that counts iterations has one epoch."""
    names = ('batches_per_epoch', 'iterations_per_epoch')
    given = (case.schedule[each] for each in names if each in case.schedule)
    return next(given, 1) if by_epoch else case.num_steps


def _item(case: TrajectoryCase, number: int) -> dict:
    """The image of a number, and the frame before."""
    image = case.network_input(number)
    item = dict(inputs=image, data_samples=sample_of(image, **case.ground_truth(number)))
    if 'previous_images' in case.io:
        before = sample_of(image, **case.ground_truth(number, 'previous_'))
        item['data_samples'].previous = before
        item['previous'] = case.network_input(number, 'previous_images')
        item['previous_heatmap'] = case.network_input(number, 'previous_heatmap')
    return item


def case_config(case: TrajectoryCase, system: System) -> tuple[Config, list[str]]:
    """The recipe with the schedule and the hyper-parameters of a case, and what that changed."""
    cfg = recipe(system)
    compress(cfg, case)
    return cfg, CaseOptions(cfg, case.meta).changes


def compress(cfg: Config, case: TrajectoryCase) -> None:
    """Replace the lengths and moments of the recipe's schedule by those of the case."""
    schedule, optimizer = case.schedule, cfg.optim_wrapper.optimizer
    if 'max_iters' in cfg.train_cfg:
        cfg.train_cfg.max_iters = case.num_steps
    else:
        epochs = schedule.get('epochs', schedule.get('num_epochs', case.num_steps))
        cfg.train_cfg.max_epochs = epochs
    cfg.train_cfg.val_interval = 10**9
    cfg.train_cfg.pop('dynamic_intervals', None)
    if not case.is_adam and optimizer.type == 'Adam':
        # an option of CornerNet and CenterTrack that no recipe of ours uses
        cfg.optim_wrapper.optimizer = dict(type='SGD', momentum=0.9, weight_decay=1e-4)
    rate = schedule.get('learning_rate', schedule.get('lr'))
    if rate is not None:
        cfg.optim_wrapper.optimizer.lr = rate
    for scheduler in cfg.get('param_scheduler') or []:
        if 'milestones' in scheduler:
            scheduler.milestones = _moments(schedule)
            scheduler.pop('end', None)
    for hook in cfg.get('custom_hooks') or []:
        if hook['type'] == 'ScaledYOLOV4ScheduleHook':
            hook.update(
                nominal_batch_size=schedule['nominal_batch_size'],
                warmup_epochs=0,
                warmup_min_iters=schedule['warmup_iterations'],
            )


def _moments(schedule: Mapping[str, Any]) -> list[int]:
    """Iterations or epochs after which the rate drops."""
    if 'stepsize' in schedule:
        return list(range(schedule['stepsize'], schedule['max_iter'] + 1, schedule['stepsize']))
    steps = schedule.get('lr_step', schedule.get('lr_steps', ()))
    if isinstance(steps, str):
        return [int(each) for each in steps.split(',') if each]
    return [steps] if isinstance(steps, int) else list(steps)


# ------------------------------------------------------------------------------------ networks


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
    """Features from the golden previous heatmap, after a comparison with the encoder's.

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


def make_inverse(
    case: TrajectoryCase, system: System
) -> Callable[[Mapping[str, Tensor]], Official]:
    """The inverse of a conversion, found by converting the numbers of all elements.

    It returns the official tensors whose elements are all in ours. A
    conversion moves elements and folds biases into running means. Element numbers show where each
    one goes; a second conversion with all biases zero shows it for the running means.
    """
    cfg = recipe(system)
    model = build_model(case, system, cfg).double()
    sizes = [int(np.prod(shape, dtype=np.int64)) for shape in case.keys.values()]
    ends = np.cumsum([1, *sizes])  # element 0 is none
    spans = {name: (ends[i], ends[i + 1]) for i, name in enumerate(case.keys)}
    numbered = {
        name: torch.arange(*spans[name]).reshape(shape).double()
        for name, shape in case.keys.items()
    }
    unbiased = {k: v * (not k.endswith('bias')) for k, v in numbered.items()}
    plain, means = (system.convert(each, model, cfg.model) for each in (numbered, unbiased))

    def back(state: Mapping[str, Tensor]) -> Official:
        flat = np.full(ends[-1], np.nan)
        for name in plain:
            if not name.endswith('num_batches_tracked'):
                places = (means if name.endswith('running_mean') else plain)[name]
                flat[places.reshape(-1).long().numpy()] = state[name].reshape(-1).double().numpy()
        found = {k: flat[slice(*spans[k])].reshape(shape) for k, shape in case.keys.items()}
        found = {k: v for k, v in found.items() if v.size and not np.isnan(v).any()}
        return {k: v for k, v in found.items() if not k.endswith('num_batches_tracked')}

    return back
