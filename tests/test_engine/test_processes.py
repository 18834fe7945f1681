"""End of the process group: objects that refer to it are freed first."""

import gc
import weakref
from types import SimpleNamespace

import pytest
import torch

from mmdet_losses import engine
from mmdet_losses.engine import cli, processes


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
            engine.run_tool(remembered, SimpleNamespace(debug=False))
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
