"""Parameter groups, accumulation, schedule and average of the PyTorch codes of YOLOv4.

The numbers are those of the update rules; ``tests/test_trajectories.py`` compares whole trainings.
"""

import math
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mmdet_losses.engine import (
    KernelDecayOptimWrapperConstructor,
    NominalBatchOptimWrapper,
    ScaledYOLOV4EMA,
    ScaledYOLOV4ScheduleHook,
)

SGD = dict(type='SGD', lr=0.01, momentum=0.937, weight_decay=5e-4, nesterov=True)


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def build(wrapper='NominalBatchOptimWrapper'):
    constructor = KernelDecayOptimWrapperConstructor(dict(type=wrapper, optimizer=dict(SGD)))
    return constructor(network())


class Loader:
    """A data loader as far as the hook reads it."""

    def __init__(self, batch_size, length):
        self.batch_sampler = SimpleNamespace(batch_size=batch_size)
        self.length = length

    def __len__(self):
        return self.length


def training(batch_size=8, length=10, max_epochs=300, wrapper=None):
    return SimpleNamespace(
        optim_wrapper=wrapper or build(),
        max_epochs=max_epochs,
        train_dataloader=Loader(batch_size, length),
        iter=0,
        epoch=0,
    )


def at(runner, hook, iteration, epoch):
    runner.iter, runner.epoch = iteration, epoch
    hook.before_train_iter(runner, 0)
    return runner.optim_wrapper.optimizer.param_groups


def test_groups_are_norm_weights_then_kernels_then_biases():
    others, kernels, biases = build().optimizer.param_groups
    assert [len(group['params']) for group in (others, kernels, biases)] == [1, 2, 3]
    assert [g['weight_decay'] for g in (others, kernels, biases)] == [0, 5e-4, 0]


def test_frozen_parameters_are_in_no_group():
    model = network()
    model[0].requires_grad_(False)
    constructor = KernelDecayOptimWrapperConstructor(dict(optimizer=dict(SGD)))
    groups = constructor(model).optimizer.param_groups
    assert [len(group['params']) for group in groups] == [1, 1, 2]


def test_paramwise_settings_raise():
    with pytest.raises(ValueError, match='remove paramwise_cfg'):
        KernelDecayOptimWrapperConstructor(dict(optimizer=SGD), dict(norm_decay_mult=0))


def test_warm_up_starts_kernels_at_zero_and_biases_above():
    runner, hook = training(), ScaledYOLOV4ScheduleHook()
    hook.before_train(runner)
    others, kernels, biases = at(runner, hook, 0, 0)
    assert (others['lr'], kernels['lr'], biases['lr']) == (0.0, 0.0, 0.1)
    assert kernels['momentum'] == 0.9
    others, kernels, biases = at(runner, hook, 500, 50)
    target = 0.01 * ((1 + math.cos(math.pi * 50 / 300)) / 2 * 0.8 + 0.2)
    assert kernels['lr'] == pytest.approx(target / 2)
    assert biases['lr'] == pytest.approx(0.1 + (target - 0.1) / 2)
    assert kernels['momentum'] == pytest.approx(0.9 + 0.037 / 2)


def test_after_the_warm_up_the_cosine_is_one_epoch_late():
    runner, hook = training(), ScaledYOLOV4ScheduleHook()
    hook.before_train(runner)
    rates = {group['lr'] for group in at(runner, hook, 1001, 100)}
    assert rates == {0.01 * hook.cosine(99, 300)}
    assert hook.cosine(0, 300) == 1
    assert hook.cosine(300, 300) == pytest.approx(0.2)


def test_the_number_of_iterations_per_update_rises_to_the_nominal_batch():
    runner, hook = training(batch_size=8), ScaledYOLOV4ScheduleHook()
    hook.before_train(runner)
    counts = []
    for iteration in (0, 500, 1000, 5000):
        at(runner, hook, iteration, iteration // 10)
        counts.append(runner.optim_wrapper.accumulate)
    assert counts == [1, 4, 8, 8]  # 4.5 rounds to the even number


@pytest.mark.parametrize(('batch', 'expected'), [(64, 5e-4), (2, 5e-4), (24, 5e-4 * 24 * 3 / 64)])
def test_decay_is_scaled_by_the_images_per_update(batch, expected):
    runner, hook = training(batch_size=batch), ScaledYOLOV4ScheduleHook()
    for _ in range(2):  # a resumed run scales the same value again
        hook.before_train(runner)
        kernels = runner.optim_wrapper.optimizer.param_groups[1]
        assert kernels['weight_decay'] == pytest.approx(expected)


def test_gradients_add_up_and_leftovers_of_an_epoch_are_dropped():
    parameter = nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    wrapper = NominalBatchOptimWrapper(optimizer)
    wrapper.accumulate = 2
    for iteration in (1, 2):
        wrapper.iteration = iteration
        wrapper.update_params(parameter * 3)
    assert parameter.item() == -6
    wrapper.iteration = 3
    wrapper.update_params(parameter * 3)
    ScaledYOLOV4ScheduleHook().before_train_epoch(SimpleNamespace(optim_wrapper=wrapper))
    wrapper.iteration = 4
    wrapper.update_params(parameter * 1)
    assert parameter.item() == -7


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(wrapper=build('OptimWrapper')), 'NominalBatchOptimWrapper'),
        (dict(max_epochs=0), 'EpochBasedTrainLoop'),
        (
            dict(wrapper=NominalBatchOptimWrapper(torch.optim.SGD(network().parameters(), 0.1))),
            'three parameter groups',
        ),
    ],
)
def test_a_schedule_that_does_not_fit_raises(change, message):
    with pytest.raises(ValueError, match=message):
        ScaledYOLOV4ScheduleHook().before_train(training(**change))


def test_the_average_follows_its_formula_from_the_first_update():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = ScaledYOLOV4EMA(model, momentum=1e-4, gamma=2000)
    expected = 0.0
    for update in (1, 2, 3):
        nn.init.constant_(model.weight, float(update))
        average.update_parameters(model)
        keep = 0.9999 * (1 - math.exp(-update / 2000))
        expected = keep * expected + (1 - keep) * update
        assert average.module.weight.item() == pytest.approx(expected)


def test_plain_wrapper_is_an_optim_wrapper():
    assert isinstance(build('OptimWrapper'), OptimWrapper)
