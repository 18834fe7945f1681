"""Runs of two processes end: no rank hangs or aborts after its work is done."""

import gc
import importlib
import os
import re
import socket
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import MMDistributedDataParallel

from mmdet_losses import engine
from tests.processes import ROOT, fork_interpreter, run_command, wait_child

RUNS = int(os.environ.get('RUNS', '3'))
PART = 20
"""Runs of one test: pytest ends a test that takes longer than 15 minutes."""


@pytest.mark.timeout(60 + 20 * PART)
@pytest.mark.parametrize('first', range(0, RUNS, PART))
def test_runs_of_two_processes_end_with_the_status_of_their_work(tmp_path, first):
    """RUNS=200 for more; every third run raises an error, which is status 1."""
    count = min(PART, RUNS - first)
    (tmp_path / 'config.py').write_text('model = dict()')
    call = f'test.runs(Path({str(tmp_path)!r}), {count})'
    code = f'from pathlib import Path; import tests.test_engine.test_process_exit as test; {call}'
    done = run_command([sys.executable, '-W', 'ignore', '-c', code], cwd=ROOT, limit=20 * PART)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f'{count} of {count} runs ended' in done.stdout
    errors = re.findall(r'error \(rank \d\): a mistake', done.stderr)
    assert len(errors) == count // 3  # one of two processes prints it


def runs(folder: Path, count: int) -> None:
    """Every run forks its ranks from this process, which has imported the stack."""
    importlib.import_module('torch._dynamo')  # DistributedDataParallel imports it
    gc.freeze()  # a collection in a rank examines the objects of the rank
    for run in range(count):
        fails = run % 3 == 2
        port = free_port()
        ranks = []
        for rank in (0, 1):
            sys.stdout.flush()
            ranks.append(fork_interpreter(partial(run_rank, rank, port, fails, folder)))
        statuses = [wait_child(child, 60) for child in ranks]
        assert statuses == [fails, fails], f'run {run} ended with {statuses}'
    print(f'{count} of {count} runs ended')


def run_rank(rank: int, port: int, fails: bool, folder: Path) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1',
        MASTER_PORT=str(port),
    )  # fmt: skip
    engine.run_tool(raise_error if fails else take_steps, arguments(folder))


def arguments(folder: Path) -> SimpleNamespace:
    return SimpleNamespace(
        config=str(folder / 'config.py'), cfg_options=None, launcher='pytorch', local_rank=0,
        work_dir=None, verbose=True, debug=False,
    )  # fmt: skip


def take_steps(cfg, args):
    """Two steps of a distributed model in a reference cycle, like a runner with its hooks."""
    model = MMDistributedDataParallel(torch.nn.Linear(4, 4))
    model.itself = [model]
    for _ in range(2):
        model(torch.ones(2, 4)).sum().backward()


def raise_error(cfg, args):
    take_steps(cfg, args)
    raise engine.UsageError('a mistake.')


def free_port() -> int:
    with socket.socket() as one:
        one.bind(('127.0.0.1', 0))
        return one.getsockname()[1]
