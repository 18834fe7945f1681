"""Recipes train like the official codes: rates, losses, weights and averages, step by step.

``python tools/check_parity.py --golden DIR`` compares every official trainer; here is one small
case of each family. SSD on VGG-16 runs in float32, which takes half of the time.
"""

from pathlib import Path

import pytest

from tools.parity import trajectories
from tools.parity.trajectory_case import TrajectoryCase
from tools.parity.trajectory_systems import system_of

GOLDEN = Path(__file__).parent / 'golden' / 'trajectories'
CASES = sorted(path.name for path in GOLDEN.iterdir())
SINGLE = ('ssd300_vgg16',)
"""Cases that train in float32."""


def failed(rows):
    return [f'{row.quantity}: {row.max_abs:.1e}' for row in rows if not row.ok]


@pytest.mark.parametrize('name', CASES)
def test_a_recipe_trains_like_the_official_code(name):
    precision = 'float32' if name in SINGLE else 'float64'
    rows = trajectories.check_trajectory(GOLDEN / name, precision)
    rows = [row for row in rows if not row.reason]
    io = TrajectoryCase(GOLDEN / name).io
    snapshots = [key for key in io if key.startswith('after') and key.endswith('norm')]
    states = [key for key in snapshots if 'value' not in key]
    terms = [key for key in io if key.startswith('loss.')]
    assert len(rows) == len(terms) + len(states) + len(('rates', 'momentum'))
    assert not failed(rows)


def test_every_array_is_compared_listed_or_failed(monkeypatch):
    case = TrajectoryCase(GOLDEN / 'ctdet_resdcn18')
    assert all(row.reason for row in case.rest())
    case.io['unknown'] = case.io['lr']
    assert [row.quantity for row in case.rest() if not row.ok] == ['unknown: not checked']
    names = sorted(case.row)
    still = case.meta['zero_gradient'][0]
    listed = case.left_out(dict.fromkeys(set(names) - {names[0]} | {still}))
    assert {names[0], still} <= {name for row in listed for name in row.quantity.split(', ')}
    assert len(listed) == 2 and all(row.reason for row in listed)
    monkeypatch.setattr(trajectories, 'train', lambda *_: 1 / 0)
    rows = trajectories.check_trajectory(case.folder)
    assert {row.quantity.split()[0] for row in rows} >= {'lr', 'loss.total', 'after1.norm'}
    assert not any(row.ok for row in rows)


def changed_case(name, **meta):
    """A stored case with other values in its meta data."""
    case = TrajectoryCase(GOLDEN / name)
    for key, values in meta.items():
        case.meta[key] = {**case.meta.get(key, {}), **values}
    case.schedule = case.meta['schedule']
    return case


@pytest.mark.parametrize('name', CASES)
def test_the_stored_cases_change_no_hyper_parameter_of_a_recipe(name):
    case = TrajectoryCase(GOLDEN / name)
    assert trajectories.case_config(case, system_of(case.meta))[1] == []


def test_hyper_parameters_come_from_the_case():
    case = changed_case(
        'scaled_yolov4_csp_accumulate',
        hyp=dict(obj=0.7, cls=0.4, momentum=0.9, lr0=0.02, anchor_t=3.0),
        schedule=dict(warmup_momentum=0.7, final_fraction=0.1, warmup_bias_lr=0.2),
        batch_norm=dict(eps=[1e-4], momentum=[0.1]),
    )
    cfg, changes = trajectories.case_config(case, system_of(case.meta))
    criterion, encoder = cfg.model.bbox_head.criterion, cfg.model.bbox_head.encoder
    optimizer, hook = cfg.optim_wrapper.optimizer, cfg.custom_hooks[0]
    assert (criterion.obj_gain, criterion.cls_gain, criterion.box_gain) == (0.7, 0.4, 0.05)
    assert (optimizer.momentum, optimizer.lr, encoder.anchor_threshold) == (0.9, 0.02, 3.0)
    assert (hook.warmup_momentum, hook.warmup_bias_lr, hook.final_fraction) == (0.7, 0.2, 0.1)
    assert cfg.model.neck.norm_cfg == dict(type='BN', eps=1e-4, momentum=0.1)
    assert 'obj_gain 0.7 instead of 1.0' in changes
    case.meta['hyp']['fl_gamma'] = 1.5
    with pytest.raises(ValueError, match=r'fl_gamma of the case is 1\.5'):
        trajectories.case_config(case, system_of(case.meta))


def test_schedule_weights_and_network_come_from_the_case():
    case = changed_case(
        'ctdet_resdcn18',
        weights=dict(wh=0.2, off=0.5),
        network=dict(arch='resdcn_101', head_conv=32),
        schedule=dict(lr_step='1,2', num_epochs=3, iterations_per_epoch=2),
    )
    case.meta['optimizer_groups'][0].update(betas=[0.8, 0.99], weight_decay=1e-4)
    system = system_of(case.meta)
    cfg, _ = trajectories.case_config(case, system)
    system.shrink(cfg, case)
    optimizer, criterion = cfg.optim_wrapper.optimizer, cfg.model.bbox_head.criterion
    assert (optimizer.betas, optimizer.weight_decay) == ([0.8, 0.99], 1e-4)
    assert (criterion.loss_size.loss_weight, criterion.loss_offset.loss_weight) == (0.2, 0.5)
    assert (cfg.model.backbone.depth, cfg.model.bbox_head.predictor.channels) == (101, 32)
    assert (cfg.train_cfg.max_epochs, cfg.param_scheduler[0].milestones) == (3, [1, 2])
    assert trajectories.batches_of(case, by_epoch=True) == 2
    case = changed_case('cornernet_squeeze', schedule=dict(decay_rate=5, optimizer='sgd'))
    case.meta['optimizer_groups'] = [dict(momentum=0.8, weight_decay=1e-3, nesterov=True)]
    cfg, _ = trajectories.case_config(case, system_of(case.meta))
    assert cfg.param_scheduler[0].gamma == 0.2
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.00025, momentum=0.8, weight_decay=1e-3, nesterov=True
    )


def check_with(monkeypatch, mistake):
    """Rows of a case, trained with a changed recipe."""

    def with_mistake(system, read=trajectories.recipe):
        cfg = read(system)
        cfg.optim_wrapper.update(mistake)
        return cfg

    monkeypatch.setattr(trajectories, 'recipe', with_mistake)
    return trajectories.check_trajectory(GOLDEN / 'cornernet_squeeze')


def test_a_mistake_in_the_recipe_is_found(monkeypatch):
    rows = check_with(monkeypatch, dict(clip_grad=dict(max_norm=1.0)))
    assert any('weights after 6' in text for text in failed(rows))


def test_a_value_of_the_case_that_replaces_one_of_the_recipe_is_printed(monkeypatch, capsys):
    mistake = dict(optimizer=dict(type='Adam', lr=1e-4, betas=(0.8, 0.999)))
    assert not failed(check_with(monkeypatch, mistake))
    assert 'betas [0.9, 0.999] instead of (0.8, 0.999)' in capsys.readouterr().out
