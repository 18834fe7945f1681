"""Training steps are timed in turns, and change the weights."""

from pathlib import Path

import pytest
from mmengine.runner import Runner

from tools.benchmarks.steps import step_times


@pytest.mark.slow
def test_configs_take_turns_and_train(tools, tmp_path, monkeypatch):
    other = tmp_path / 'other.py'
    other.write_text(
        f'_base_ = {str(tools.config)!r}\nmodel = dict(bbox_head=dict(predictor=dict(channels=8)))'
    )
    trained = []
    set_up = Runner.train

    def train(runner):
        model = set_up(runner)
        step = model.train_step
        model.train_step = lambda data, optim_wrapper: trained.append(
            (Path(runner.work_dir).name, step(data, optim_wrapper))
        )
        return model

    monkeypatch.setattr(Runner, 'train', train)
    # eight images are four batches, so the second epoch starts
    times = step_times([tools.config, other], ['optim_wrapper.optimizer.lr=0.001'], 5)
    assert [len(row) for row in times] == [5, 5] and min(map(min, times)) > 0
    names, losses = zip(*trained, strict=True)
    assert names == ('small', 'other') * 6
    assert all(losses[number]['loss'] != losses[number + 2]['loss'] for number in range(10))
    assert len(step_times([tools.config], [], 1)[0]) == 1  # the folder of the first call is removed
    assert not (tools.folder / 'work_dirs').exists()
