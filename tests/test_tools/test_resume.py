"""A run killed in mid-epoch and resumed gives the weights of one that was never interrupted."""

from __future__ import annotations

import torch

from tests.processes import kill_command


def test_resume_after_kill(tools, trained, workers, tmp_path):
    options = ['--work-dir', tmp_path, '--cfg-options', *workers]
    process = tools.start('train.py', tools.stall, *options)
    tools.wait_for(tmp_path / 'stalled', process)  # epoch 2 of 3, before its third iteration
    kill_command(process)
    assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_1.pth']

    result = tools.run('train.py', tools.config, '--verbose', *options, '--resume')
    assert result.status == 0, result.text[-3000:]
    assert 'resumed epoch: 1, iter: 4' in result.text
    whole = tools.weights(trained.work_dir / 'epoch_3.pth')
    resumed = tools.weights(tmp_path / 'epoch_3.pth')
    assert whole.keys() == resumed.keys()
    for name in whole:
        assert torch.equal(whole[name], resumed[name]), name
    start = tools.weights(trained.work_dir / 'epoch_1.pth')
    assert not all(torch.equal(start[name], whole[name]) for name in start)
