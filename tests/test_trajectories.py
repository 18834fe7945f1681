"""Recipes train like the official codes: rates, losses, weights and averages, step by step.

``python tools/check_parity.py --golden DIR`` compares every official trainer; here is one small
case of each kind of trainer.
"""

from pathlib import Path

import pytest

from tools.parity import trajectories
from tools.parity.trajectory_case import TrajectoryCase

GOLDEN = Path(__file__).parent / 'golden' / 'trajectories'
CASES = sorted(path.name for path in GOLDEN.iterdir())


def failed(rows):
    return [f'{row.quantity}: {row.max_abs:.1e}' for row in rows if not row.ok]


@pytest.mark.parametrize('name', CASES)
def test_a_recipe_trains_like_the_official_code(name):
    rows = [row for row in trajectories.check_trajectory(GOLDEN / name) if not row.reason]
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
    monkeypatch.setattr(trajectories, 'train', lambda *_: 1 / 0)
    rows = trajectories.check_trajectory(case.folder)
    assert {row.quantity.split()[0] for row in rows} >= {'lr', 'loss.total', 'after1.norm'}
    assert not any(row.ok for row in rows)


@pytest.mark.parametrize(
    ('mistake', 'expected'),
    [
        (dict(clip_grad=dict(max_norm=1.0)), 'weights after 6'),
        (dict(optimizer=dict(type='Adam', lr=1e-4, betas=(0.8, 0.999))), 'momentum'),
    ],
)
def test_a_mistake_in_the_recipe_is_found(monkeypatch, mistake, expected):
    def with_mistake(system, read=trajectories.recipe):
        cfg = read(system)
        cfg.optim_wrapper.update(mistake)
        return cfg

    monkeypatch.setattr(trajectories, 'recipe', with_mistake)
    rows = trajectories.check_trajectory(GOLDEN / 'cornernet_squeeze')
    assert any(expected in text for text in failed(rows))
