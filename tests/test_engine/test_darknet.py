"""Darknet's learning rate and its average of the weights."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmdet_losses.engine import DarknetEMAHook, DarknetLR


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
