"""Schedules of the full recipes: proportions on any number of processes, checkpoints, tests."""

import functools
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn

from mmdet_losses.engine import scaled_yolov4
from mmdet_losses.engine.scaled_yolov4 import KERNELS, KernelDecayOptimWrapperConstructor
from mmdet_losses.registry import HOOKS, OPTIM_WRAPPERS, OPTIMIZERS, PARAM_SCHEDULERS
from tools.datasets.small_configs import full_recipes

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'docs'))

import training_parity  # noqa: E402 (docs/ is no package)

RECIPES = full_recipes()
IMAGES = 118_287
"""Of COCO; only its ratio to the batch counts."""
PROCESSES = (1, 4, 8)
WARM_UP = 0.01
"""MMDetection's warm-ups count updates on any number of processes: at most this share."""

read = functools.cache(Config.fromfile)


@pytest.fixture(params=RECIPES, ids=lambda path: path.stem)
def recipe(request):
    return read(request.param)


def length_of(cfg):
    """Length of the training, and whether it is in epochs."""
    by_epoch = 'max_epochs' in cfg.train_cfg
    return cfg.train_cfg['max_epochs' if by_epoch else 'max_iters'], by_epoch


def moments_of(scheduler):
    return list(scheduler.get('milestones') or scheduler.get('steps') or [])


def iterations_of(cfg, processes):
    """Iterations of an epoch and of the whole training on some processes."""
    per_epoch = math.ceil(IMAGES / (cfg.train_dataloader.batch_size * processes))
    length, by_epoch = length_of(cfg)
    return per_epoch, length * per_epoch if by_epoch else length


def shares(cfg, processes):
    """Moments at which the rates or the average change, as shares of the training."""
    per_epoch, total = iterations_of(cfg, processes)
    found = []
    for scheduler in cfg.get('param_scheduler') or []:
        by_epoch = scheduler.get('by_epoch', scheduler.type != 'DarknetLR')
        unit = per_epoch if by_epoch else 1
        found += [moment * unit / total for moment in moments_of(scheduler)]
        found.append(scheduler.get('burn_in', 0) / total)
    for options in cfg.get('custom_hooks') or []:
        # the runner takes `priority`
        hook = HOOKS.build({key: value for key, value in options.items() if key != 'priority'})
        if options.type == 'DarknetEMAHook':
            hook.before_run(
                SimpleNamespace(model=nn.Linear(1, 1), max_iters=total, iter=0, epoch=0)
            )
            found += [hook.begin_iter / total, hook.apply_iter / total]
        if options.type == 'ScaledYOLOV4ScheduleHook':
            found.append(max(hook.warmup_epochs * per_epoch, hook.warmup_min_iters) / total)
    return found


def test_the_rate_drops_in_the_unit_of_the_length(recipe):
    # With another number of processes an epoch has another number of iterations: milestones in the
    # other unit would move to another part of the training.
    length, by_epoch = length_of(recipe)
    for scheduler in recipe.get('param_scheduler') or []:
        moments = moments_of(scheduler)
        if moments:
            unit = scheduler.get('by_epoch', scheduler.type != 'DarknetLR')
            assert unit == by_epoch, scheduler
            assert max(moments) < length


def test_drops_burn_in_and_average_keep_their_share_of_the_training(recipe):
    expected = shares(recipe, 8)
    assert expected
    for processes in PROCESSES:
        assert shares(recipe, processes) == pytest.approx(expected, abs=1e-4)
        for scheduler in recipe.get('param_scheduler') or []:
            if scheduler.type == 'LinearLR':
                assert scheduler.end / iterations_of(recipe, processes)[1] <= WARM_UP


@pytest.mark.parametrize('processes', PROCESSES)
def test_scaled_rates_keep_the_shape_of_the_schedule(recipe, processes, monkeypatch):
    """--auto-scale-lr multiplies every rate of the training by batch / base batch."""
    batch = recipe.train_dataloader.batch_size
    factor = batch * processes / recipe.auto_scale_lr.base_batch_size
    (normal, rate), (scaled, same_rate) = (
        rates(recipe, processes, monkeypatch, enable) for enable in (False, True)
    )
    if recipe.get('param_scheduler'):
        assert same_rate == pytest.approx(rate * factor)
        assert scaled == pytest.approx([each * factor for each in normal])
    else:  # the accumulation to the nominal batch takes its place
        assert scaled == pytest.approx(normal)


def rates(cfg, processes, monkeypatch, enable):
    """Rates of kernels at a few moments, and the rate of the optimizer before any schedule."""
    options = dict(cfg.optim_wrapper)
    options.pop('paramwise_cfg', None)
    layer = nn.Conv2d(1, 1, 1)
    if options.pop('constructor', None):
        wrapper = KernelDecayOptimWrapperConstructor(options)(layer)
    else:
        optimizer = dict(options.pop('optimizer'))
        built = OPTIMIZERS.build({**optimizer, 'params': layer.parameters()})
        wrapper = OPTIM_WRAPPERS.build(options, default_args=dict(optimizer=built))
    assert isinstance(wrapper, OptimWrapper)
    per_epoch, _ = iterations_of(cfg, processes)
    loader = dict(batch_size=cfg.train_dataloader.batch_size)
    runner = SimpleNamespace(
        _train_dataloader=loader, world_size=processes, param_schedulers=None,
        logger=SimpleNamespace(info=print),
    )  # fmt: skip
    Runner.scale_lr(runner, wrapper, dict(cfg.auto_scale_lr, enable=enable))
    group = wrapper.param_groups[KERNELS if len(wrapper.param_groups) == 3 else 0]
    start = group['lr']
    if not cfg.get('param_scheduler'):
        return scaled_yolov4_rates(cfg, processes, wrapper, per_epoch, monkeypatch), start
    found = []
    for options in cfg.param_scheduler:
        options = {key: value for key, value in options.items() if key != 'convert_to_iter_based'}
        group['lr'] = start
        group.pop('initial_lr', None)
        scheduler = PARAM_SCHEDULERS.build(options, default_args=dict(optimizer=wrapper))
        found += scheduler.base_values[:1]
        found.append(group['lr'])
    return found, start


def scaled_yolov4_rates(cfg, processes, wrapper, per_epoch, monkeypatch):
    """Rates that the hook sets in and after the warm-up."""
    hook = HOOKS.build(cfg.custom_hooks[0])
    batches = SimpleNamespace(batch_size=cfg.train_dataloader.batch_size)

    class Loader:
        batch_sampler = batches

        def __len__(self):
            return per_epoch

    monkeypatch.setattr(scaled_yolov4, 'get_world_size', lambda: processes)
    runner = SimpleNamespace(
        optim_wrapper=wrapper, max_epochs=cfg.train_cfg.max_epochs, train_dataloader=Loader()
    )
    hook.before_train(runner)
    found = []
    for epoch in (0, 1, 5, 200):
        runner.epoch, runner.iter = epoch, epoch * per_epoch + 10
        hook.before_train_iter(runner, 0)
        found.append(wrapper.param_groups[KERNELS]['lr'])
    return found


def test_checkpoints_and_validations_meet(recipe):
    length, by_epoch = length_of(recipe)
    checkpoint = recipe.default_hooks.checkpoint
    assert checkpoint.get('by_epoch', True) == by_epoch
    assert recipe.train_cfg.val_interval % checkpoint.interval == 0
    assert recipe.train_cfg.val_interval <= length


def test_few_checkpoints_are_kept(recipe):
    assert 1 <= recipe.default_hooks.checkpoint.get('max_keep_ckpts', -1) <= 5


@pytest.mark.parametrize('path', RECIPES, ids=lambda path: path.stem)
def test_the_thresholds_of_the_test_are_the_official_ones(path):
    official, cfg = training_parity.official_of(path), read(path)
    if official.test is None:
        pytest.skip('the official test of this recipe is not listed')
    assert official.test == training_parity.test_of(cfg)
    assert 'score_thr' not in cfg.model.bbox_head.encoder, 'test_cfg has it'


@pytest.mark.parametrize('path', RECIPES, ids=lambda path: path.stem)
def test_training_starts_from_the_official_weights(path):
    official = training_parity.official_of(path)
    ours = training_parity.start_of(read(path))
    assert official.start in (ours, None), 'None: the official weights are not published'


@pytest.mark.parametrize('path', RECIPES, ids=lambda path: path.stem)
def test_the_first_table_of_the_readme_has_every_difference(path):
    official, cfg = training_parity.official_of(path), read(path)
    parts = (path.parent / 'README.md').read_text(encoding='utf-8').split('\n\n')
    table = next(part for part in parts if part.startswith('|'))
    ours = dict(
        optimizer=training_parity.optimizer_of(cfg),
        schedule=training_parity.schedule_of(cfg),
        average=training_parity.average_of(cfg),
        batch=training_parity.batch_of(cfg, path),
    )
    for column, value in ours.items():
        wanted = getattr(official, column)
        if wanted not in (value, None):
            assert f'{value}; official {wanted}' in table
