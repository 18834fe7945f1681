"""Schedules of the full recipes: one unit, proportions on any number of processes, checkpoints."""

from pathlib import Path

import pytest
from mmengine.config import Config

from tools.datasets.small_configs import small_configs

ROOT = Path(__file__).resolve().parents[1]
SMALL = {path.resolve() for path in small_configs().values()}
RECIPES = sorted(
    path
    for path in ROOT.glob('configs/*/*.py')
    if path.parent.name not in ('_base_', 'baselines', 'bccd')
    and path.resolve() not in SMALL
    and not path.stem.endswith(('_digits', '_bccd'))
)


@pytest.fixture(params=RECIPES, ids=lambda path: path.stem)
def recipe(request):
    return Config.fromfile(request.param)


def length_of(cfg):
    """Length of the training, and whether it is in epochs."""
    by_epoch = 'max_epochs' in cfg.train_cfg
    return cfg.train_cfg['max_epochs' if by_epoch else 'max_iters'], by_epoch


def moments_of(scheduler):
    return list(scheduler.get('milestones') or scheduler.get('steps') or [])


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


def test_checkpoints_and_validations_meet(recipe):
    length, by_epoch = length_of(recipe)
    checkpoint = recipe.default_hooks.checkpoint
    assert checkpoint.get('by_epoch', True) == by_epoch
    assert recipe.train_cfg.val_interval % checkpoint.interval == 0
    assert recipe.train_cfg.val_interval <= length


def test_few_checkpoints_are_kept(recipe):
    assert 1 <= recipe.default_hooks.checkpoint.get('max_keep_ckpts', -1) <= 5
