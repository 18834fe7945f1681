"""Several processes, on one machine and on two, over gloo."""

from __future__ import annotations

import re

import pytest
import torch

ONE_EPOCH = 'train_cfg.max_epochs=1'


def equal_ranks(work_dir) -> int:
    """Check that both ranks have equal parameters; returns their number of iterations."""
    one, two = (torch.load(work_dir / f'rank_{rank}.pt') for rank in (0, 1))
    assert one['state'].keys() == two['state'].keys()
    assert all(torch.equal(one['state'][key], two['state'][key]) for key in one['state'])
    assert one['iter'] == two['iter']
    return one['iter']


@pytest.mark.skipif(torch.cuda.is_available(), reason='tests the path without a GPU')
def test_two_machines(tools, tmp_path):
    port = tools.free_port()
    command = ['dist_train.sh', tools.ranks, 1, '--work-dir', tmp_path, '--cfg-options']
    nodes = [
        tools.start(*command, ONE_EPOCH, NNODES=2, NODE_RANK=rank, PORT=port) for rank in (0, 1)
    ]
    for result in [tools.end(node) for node in nodes]:
        assert result.status == 0, result.text[-3000:]
    assert equal_ranks(tmp_path) == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason='tests the path without a GPU')
def test_a_rank_without_objects(tools, tmp_path):
    """T-5: rank 0 gets images 0, 2, 4 and 6, which have no objects."""
    options = [
        ONE_EPOCH,
        'auto_scale_lr.base_batch_size=1',
        'train_dataloader.dataset.ann_file=half.json',
        'train_dataloader.sampler.shuffle=False',
        'train_dataloader.batch_size=1',
    ]
    result = tools.run(
        'dist_train.sh', tools.ranks, 2, '--work-dir', tmp_path, '--auto-scale-lr',
        '--verbose', '--cfg-options', *options, PORT=tools.free_port(),
    )  # fmt: skip
    assert result.status == 0, result.text[-3000:]
    assert result.text.count('running on the CPU with 2 processes over gloo') == 1
    assert 'Scaling the original LR by 2.0' in result.text  # 2 x 1 images, base 1
    assert equal_ranks(tmp_path) == 4  # half of the 8 iterations of one process
    assert torch.load(tmp_path / 'rank_0.pt')['seconds'] < 60
    positives = [float(number) for number in re.findall(r'num_pos: ([\d.]+)', result.text)]
    assert positives == [0, 0, 0, 0]  # rank 0 writes the log


def test_two_processes_and_one_process_test_equally(tools, trained, tmp_path):
    arguments = [tools.config, trained.work_dir / 'epoch_3.pth']
    one = tools.run('test.py', *arguments, '--work-dir', tmp_path / 'one')
    two = tools.run(
        'dist_test.sh', *arguments, 2, '--work-dir', tmp_path / 'two', PORT=tools.free_port()
    )
    found = [re.findall(r'^AP .*', result.text, re.MULTILINE) for result in (one, two)]
    assert one.status == two.status == 0, two.text[-3000:]
    assert len(found[0]) == 1
    assert found[0] == found[1]


def test_an_error_of_the_first_process_ends_all_processes(tools, trained):
    result = tools.run(
        'dist_train.sh', tools.config, 2, '--work-dir', trained.work_dir, PORT=tools.free_port()
    )
    assert result.status != 0
    *before, last = result.text.splitlines()
    assert last.startswith('error (rank') and 'already has 3 checkpoint(s)' in last
    assert len(before) <= 3 and 'error' not in ''.join(before)


def test_the_scripts_print_their_usage(tools):
    for script, usage in (('dist_train.sh', 'CONFIG GPUS'), ('dist_test.sh', 'CHECKPOINT GPUS')):
        result = tools.run(script)
        assert result.status == 2
        assert f'{script} CONFIG' in result.text
        assert usage in result.text
