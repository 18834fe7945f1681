"""Darknet's learning rate, update rule and average of the weights."""

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from mmdet_losses.engine import DarknetEMAHook, DarknetLR, UnfreezeHook
from mmdet_losses.networks.darknet_from_cfg import DarknetFromCfg

SCHEDULE = Path(__file__).parents[2] / 'configs' / '_base_' / 'schedules' / 'darknet_500k.py'


def rates(count, **options):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    scheduler = DarknetLR(optimizer, **options)
    found = []
    for _ in range(count):
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    return found


def test_burn_in_has_the_fourth_power_and_steps_act_at_their_update():
    # darknet's golden runs: learning_rate .001, burn_in 3, steps 4,5, scales .5,.1
    expected = [1e-3 / 81, 1e-3 * 16 / 81, 1e-3, 5e-4, 5e-5, 5e-5]
    assert rates(6, burn_in=3, steps=[4, 5], scales=[0.5, 0.1]) == pytest.approx(expected)


def test_with_subdivisions_an_update_takes_several_iterations():
    found = rates(6, burn_in=2, steps=[3], scales=[0.1], subdivisions=2)
    assert found == pytest.approx([1e-3 / 16] * 2 + [1e-3] * 2 + [1e-4] * 2)


def test_a_resumed_run_takes_the_steps_of_its_config():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    state = DarknetLR(optimizer, steps=[1], scales=[0.1]).state_dict()
    longer = DarknetLR(optimizer, steps=[5], scales=[0.1])
    longer.load_state_dict(state)
    assert longer.steps == (5,)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(steps=[1, 2], scales=[0.1]), 'one scale per step'),
        (dict(by_epoch=True), 'counts updates'),
    ],
)
def test_wrong_options_raise(options, message):
    with pytest.raises(ValueError, match=message):
        rates(1, **options)


def run_average(max_iters, apply_before_end):
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    hook = DarknetEMAHook(alpha=0.5, apply_before_end=apply_before_end)
    runner = SimpleNamespace(model=model, max_iters=max_iters, max_epochs=1, iter=0, epoch=0)
    hook.before_run(runner)
    weights = []
    for runner.iter in range(max_iters):
        model.weight.data += 1  # imitates an optimizer step
        hook.after_train_iter(runner, 0)
        weights.append(model.weight.item())
    return weights


def test_the_average_begins_at_half_and_replaces_the_weights_before_the_end():
    # copy of 4 after the 4th iteration, then 4.5 and 5.25 after the 5th and 6th
    assert run_average(8, 1) == [1, 2, 3, 4, 5, 6, 5.25, 6.25]


def test_a_training_too_short_for_the_average_raises():
    with pytest.raises(ValueError, match='lower apply_before_end'):
        run_average(8, 4)


class Squares(BaseModel):
    """A small network whose loss is the mean over the images of a sum, as our criteria have it."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False),
            nn.BatchNorm2d(4, eps=1e-5, momentum=0.01),
            nn.LeakyReLU(0.1),
            nn.Conv2d(4, 2, 1),
        )

    def forward(self, images, mode='loss'):
        found = self.net(torch.stack(images))
        return dict(loss=found.square().sum() / 2 / len(images))


def slow_updates(net, batches, subdivisions, rates, momentum, decay):
    """darknet's rule: gradients of sums, the batch divides the rate, only kernels are decayed."""
    speed = {name: torch.zeros_like(value) for name, value in net.named_parameters()}
    for number, rate in enumerate(rates):
        net.zero_grad()
        images = 0
        for batch in batches[number * subdivisions : (number + 1) * subdivisions]:
            (net(batch).square().sum() / 2).backward()
            images += len(batch)
        for name, value in net.named_parameters():
            pull = decay * images * value.data if value.dim() == 4 else 0
            speed[name] = momentum * speed[name] - value.grad - pull
            value.data += rate / images * speed[name]


def test_the_schedule_of_the_recipes_is_darknets_update_rule(tmp_path):
    torch.manual_seed(0)
    model, subdivisions = Squares().double(), 2
    net = deepcopy(model.net)
    batches = list(torch.randn(12, 2, 3, 6, 6).double())
    cfg = Config.fromfile(SCHEDULE)
    cfg.optim_wrapper.update(accumulative_counts=subdivisions)
    cfg.optim_wrapper.optimizer.update(lr=0.01, weight_decay=0.5)  # the usual decay is invisible
    schedule = dict(burn_in=3, steps=[4, 5], scales=[0.5, 0.1], subdivisions=subdivisions)
    cfg.param_scheduler[0].update(schedule)
    Runner(
        model=model,
        work_dir=str(tmp_path),
        train_dataloader=dict(
            dataset=[dict(images=image) for batch in batches for image in batch],
            sampler=dict(type='DefaultSampler', shuffle=False),
            batch_size=2,
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=len(batches)),
        optim_wrapper=cfg.optim_wrapper,
        param_scheduler=cfg.param_scheduler,
        default_hooks=dict(checkpoint=None, logger=None),
        default_scope='mmdet',
        log_level='ERROR',
        experiment_name='update_rule',
    ).train()
    rates = [0.01 * each for each in (1 / 81, 16 / 81, 1, 0.5, 0.05, 0.05)]
    slow_updates(net, batches, subdivisions, rates, momentum=0.9, decay=0.5)
    for name, value in net.state_dict().items():
        torch.testing.assert_close(model.net.state_dict()[name], value, rtol=1e-9, atol=1e-12)


def test_layers_are_trained_from_an_iteration_on():
    table = [
        dict(type='convolutional', filters=4, size=1, activation='linear'),
        dict(type='yolo'),
    ]
    backbone = DarknetFromCfg(table, frozen_stages=1)
    runner = SimpleNamespace(model=SimpleNamespace(backbone=backbone), iter=0)
    hook = UnfreezeHook(iteration=2)
    hook.before_train(runner)
    trained = []
    for runner.iter in range(3):
        hook.before_train_iter(runner, 0)
        trained.append(backbone.layers[0].layer.conv.weight.requires_grad)
    assert trained == [False, False, True]
