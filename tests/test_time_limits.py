"""The suite ends: what hangs fails with its stack, and none of its processes is left."""

import ast
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from tests.processes import ROOT, kill_started, run_command, run_ranks, start_command

HANGING = """
import time

def test_hangs():
    time.sleep(60)

def test_after_it():
    pass
"""
STARTS_ANOTHER = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
print(child.pid, flush=True)
time.sleep(60)
"""


def ends(pid: int) -> bool:
    """Whether a killed process ends within 20 s: a busy machine needs a moment."""
    end = time.monotonic() + 20
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not is_running(pid)


def is_running(pid: int) -> bool:
    try:
        state = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
    except FileNotFoundError:
        return False
    return state != 'Z'  # a zombie has ended


def sum_of_ranks(rank, folder):
    total = torch.tensor(rank + 1.0)
    distributed.all_reduce(total)
    network = DistributedDataParallel(nn.Linear(3, 1))
    network(torch.ones(2, 3)).sum().backward()
    (folder / str(rank)).write_text(f'{total:g}')


def hang_in_rank_one(rank):
    if rank == 1:
        time.sleep(60)
    distributed.barrier()


def fail_in_rank_one(rank):
    if rank == 1:
        raise ValueError('rank one failed')
    distributed.barrier()


def test_ranks_form_a_group(tmp_path):
    run_ranks(sum_of_ranks, tmp_path)
    assert [(tmp_path / str(rank)).read_text() for rank in (0, 1)] == ['3', '3']


def test_a_rank_that_hangs_prints_its_stack_and_ends():
    with pytest.raises(AssertionError, match='in hang_in_rank_one'):
        run_ranks(hang_in_rank_one, limit=2)


def test_the_error_of_a_rank_fails_the_test_at_once():
    start = time.monotonic()
    with pytest.raises(AssertionError, match='ValueError: rank one failed'):
        run_ranks(fail_in_rank_one)
    assert time.monotonic() - start < 100  # the other rank would wait for 120 s


def test_a_command_that_hangs_is_killed_with_its_children():
    with pytest.raises(pytest.fail.Exception, match=r'did not end within 3 s:\n\d+') as failure:
        run_command([sys.executable, '-c', STARTS_ANOTHER], limit=3)
    child = int(str(failure.value).partition('s:\n')[2].split()[0])
    assert ends(child)


def test_a_command_that_nothing_waits_for_is_killed():
    process = start_command([sys.executable, '-c', STARTS_ANOTHER])
    child = int(process.stdout.readline())
    assert is_running(child)
    kill_started()
    assert process.returncode is not None
    assert ends(child)


def test_a_test_that_hangs_fails_with_its_stack_and_the_next_one_runs(tmp_path):
    (tmp_path / 'test_hanging.py').write_text(HANGING)
    settings = ['-c', ROOT / 'pyproject.toml', '--rootdir', tmp_path, '-p', 'no:cacheprovider']
    command = [sys.executable, '-m', 'pytest', '-n0', *settings, '--timeout', 1, 'test_hanging.py']
    done = run_command(command, cwd=tmp_path, env={'PYTHONPATH': ROOT})
    assert done.returncode == 1
    assert 'time.sleep(60)' in done.stdout
    assert 'Timeout' in done.stdout
    assert '1 failed, 1 passed' in done.stdout


def test_every_test_has_a_time_limit(pytestconfig):
    assert pytestconfig.pluginmanager.has_plugin('timeout')
    assert float(pytestconfig.getini('timeout')) == 300
    assert float(pytestconfig.getini('faulthandler_timeout')) > 300
    assert pytestconfig.getini('faulthandler_exit_on_timeout')


def test_only_one_module_of_the_tests_starts_processes():
    """Every wait on a process has a limit: all of them are in ``tests/processes.py``."""
    starters = {
        'subprocess': {'run', 'Popen', 'call', 'check_call', 'check_output'},
        'multiprocessing': {'Process', 'Pool', 'spawn', 'start_processes'},
        'os': {'fork', 'system', 'popen', 'spawnv', 'posix_spawn'},
    }
    found = set()
    for path in ROOT.glob('tests/**/*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.ImportFrom) and node.module:
                module, names = node.module, {alias.name for alias in node.names}
            elif isinstance(node, ast.Attribute):
                module, names = ast.unparse(node.value), {node.attr}
            else:
                continue
            if names & starters.get(module.rpartition('.')[2], set()):
                found.add(path.name)
    assert found == {'processes.py'}
