"""End of the process group: objects that refer to it are freed first."""

import gc
import logging
import os
import signal
import time
import weakref
from types import SimpleNamespace

import pytest
import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from mmdet_losses import engine
from mmdet_losses.engine import cli, processes
from tests.processes import fork_child, kill_child
from tools import launch


class Model:
    """An object in a reference cycle, like a runner with its hooks."""

    def __init__(self):
        self.itself = self


@pytest.fixture(name='run')
def _run(monkeypatch):
    """Function that calls run_tool as in a process group; returns the status and the events."""
    events = []

    def run(work):
        def remembered(cfg, args):
            model = Model()
            weakref.finalize(model, events.append, 'freed')
            work(model)

        monkeypatch.setattr(cli, 'load_config', lambda args: SimpleNamespace(get=lambda *_: None))
        monkeypatch.setattr(cli, 'start_processes', lambda cfg: None)
        for module in (cli, processes):
            monkeypatch.setattr(module, 'is_distributed', lambda: True)
        destroy = 'torch.distributed.destroy_process_group'
        monkeypatch.setattr(destroy, lambda: events.append('destroyed'))
        gc.disable()  # only the explicit collection counts
        try:
            engine.run_tool(remembered, SimpleNamespace(debug=False, verbose=True))
            return 0, events
        except SystemExit as error:
            return error.code, events
        finally:
            gc.enable()

    return run


def test_the_model_is_freed_before_the_group_is_destroyed(run):
    assert run(lambda model: None) == (0, ['freed', 'destroyed'])


def test_the_model_is_freed_after_a_known_error(run, capsys):
    def fail(model):
        raise engine.UsageError('a mistake.')

    assert run(fail) == (1, ['freed', 'destroyed'])
    assert capsys.readouterr().err == 'error: a mistake.\n'


def test_the_model_is_freed_after_an_unknown_error(run, capsys):
    def fail(model):
        try:
            raise KeyError('first')
        except KeyError:
            raise ZeroDivisionError('a defect') from None

    assert run(fail) == (1, ['freed', 'destroyed'])
    printed = capsys.readouterr().err
    assert 'Traceback' in printed and 'ZeroDivisionError: a defect' in printed


def test_a_group_can_be_destroyed_after_a_distributed_model(tmp_path):
    torch.distributed.init_process_group('gloo', f'file://{tmp_path}/join', rank=0, world_size=1)
    network = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
    network(torch.ones(1, 2)).sum().backward()
    del network
    processes.end_processes()
    assert not torch.distributed.is_initialized()


def is_running(pid):
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def test_a_process_ends_after_its_launcher_was_killed(capfd):
    reader, writer = os.pipe()

    def work():
        os.write(writer, str(os.getpid()).encode())
        processes.watch_launcher(0.05)
        time.sleep(60)

    def start_rank():
        fork_child(work)
        time.sleep(60)

    launcher = fork_child(start_rank)
    rank = int(os.read(reader, 20))
    time.sleep(0.3)
    assert is_running(rank)
    kill_child(launcher)
    end = time.monotonic() + 20
    while is_running(rank) and time.monotonic() < end:
        time.sleep(0.02)
    assert not is_running(rank)
    words = f'error: the launcher (process {launcher}) was killed, so process {rank} ends'
    assert words in capfd.readouterr().err


@pytest.mark.parametrize(
    ('status', 'words'), [(-9, 'was killed by SIGKILL'), (3, 'ended with status 3')]
)
def test_a_failed_rank_is_named_in_one_message(monkeypatch, capsys, status, words):
    failure = ProcessFailure(local_rank=1, pid=77, exitcode=status, error_file='<N/A>')

    def fail(argv):
        raise ChildFailedError('train.py', {1: failure})

    monkeypatch.setattr(launch, 'torchrun', fail)
    assert launch.main([]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f'error: rank 1 (process 77) {words}, so') and error.count('\n') == 1
    assert logging.getLogger('mmengine').isEnabledFor(logging.ERROR)  # as before


@pytest.mark.parametrize(
    ('raised', 'words'),
    [
        (SignalException('', signal.SIGTERM), 'the launcher received SIGTERM, so all processes'),
        (
            torch.distributed.DistNetworkError('port: 29500, address already in use\nfrom a'),
            r'cannot connect (port: 29500, address already in use): set PORT to a free port',
        ),
    ],
)
def test_an_error_of_the_launcher_is_one_message(monkeypatch, capsys, raised, words):
    def fail(argv):
        raise raised

    monkeypatch.setattr(launch, 'torchrun', fail)
    assert launch.main([]) == 1
    error = capsys.readouterr().err
    assert error.startswith('error: ') and words in error and error.count('\n') == 1
