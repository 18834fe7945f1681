"""Processes of tests: every wait has a time limit, and no process outlives its test.

:func:`run_ranks` runs a function in the processes of one gloo group, :func:`run_command` a command.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing import connection
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

ROOT = Path(__file__).resolve().parents[1]
Command = subprocess.Popen[str]
LIMIT = 240.0
"""Seconds for a process, below the time limit of a test."""
GRACE = 5.0
"""Seconds that ranks have to print their stacks after the first one failed."""
_started: list[Command] = []
_forked: list[int] = []


def run_ranks(
    work: Callable[..., None], *arguments: Any, ranks: int = 2, limit: float = 120.0
) -> None:
    """Run ``work(rank, *arguments)`` in ``ranks`` processes that form a gloo group.

    A new process imports the stack once and forks the ranks: a fork of this process could wait
    forever for a lock of its thread pools.

    Args:
        work: Function of a module; it keeps no reference to a model when it returns.
        limit: Seconds after which a rank prints its stacks and ends.

    Raises:
        AssertionError: A rank failed or reached the limit; the message ends with its output.
    """
    call = pickle.dumps((work, arguments, ranks, limit)).hex()
    command = [sys.executable, '-W', 'ignore', '-m', 'tests.processes', call]
    done = run_command(command, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-4000:]


def fork_ranks(
    work: Callable[..., None], arguments: Sequence[Any], ranks: int, limit: float
) -> bool:
    """Run the ranks in forks of this process; returns whether all of them succeeded."""
    context = multiprocessing.get_context('fork')
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(
                target=_work_in_group, args=(rank, ranks, folder, limit, work, arguments)
            )
            for rank in range(ranks)
        ]
        for process in processes:
            process.start()
        end = time.monotonic() + limit + GRACE
        while running := [process for process in processes if process.is_alive()]:
            connection.wait(
                [process.sentinel for process in running], max(0.0, end - time.monotonic())
            )
            if any(process.exitcode for process in processes):  # the others wait for it in vain
                end = min(end, time.monotonic() + GRACE)
            if time.monotonic() >= end:
                for process in processes:
                    process.kill()
        return all(process.exitcode == 0 for process in processes)


def _work_in_group(
    rank: int,
    ranks: int,
    folder: str,
    limit: float,
    work: Callable[..., None],
    arguments: Sequence[Any],
) -> None:
    # A thread of C that needs no interpreter lock: it also ends a deadlock on that lock.
    faulthandler.dump_traceback_later(limit, exit=True)
    torch.set_num_threads(1)
    distributed.init_process_group(
        'gloo',
        f'file://{folder}/join',
        rank=rank,
        world_size=ranks,
        timeout=timedelta(seconds=limit),
    )
    work(rank, *arguments)
    # A DDP module that is alive here holds the last reference to the group. The group is then
    # destroyed under the interpreter lock, and its destructor joins a thread that needs the lock.
    gc.collect()
    distributed.destroy_process_group()


def run_command(
    command: Sequence[Any],
    *,
    cwd: Path | None = None,
    env: dict[str, Any] | None = None,
    text: str | None = None,
    limit: float = LIMIT,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its outputs are in ``stdout`` and ``stderr``.

    Args:
        env: Variables beside those of this process.
        text: Standard input.
        limit: Seconds after which the command and all that it started are killed.
    """
    process = start_command(command, cwd=cwd, env=env, stdin=subprocess.PIPE)
    return end_command(process, limit, text)


def start_command(
    command: Sequence[Any],
    *,
    cwd: Path | None = None,
    env: dict[str, Any] | None = None,
    stdin: int = subprocess.DEVNULL,
    stderr: int = subprocess.PIPE,
) -> Command:
    """Start a command in a session of its own, so that all it starts can be killed with it."""
    changes = {'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1', **(env or {})}
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **{key: str(value) for key, value in changes.items()}},
        text=True,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
    )
    _started.append(process)
    return process


def end_command(
    process: Command, limit: float = LIMIT, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Wait for a command of :func:`start_command`; the test fails if it takes too long."""
    try:
        stdout, stderr = process.communicate(text, timeout=limit)
    except subprocess.TimeoutExpired:
        kill_command(process)
        stdout, stderr = process.communicate()
        pytest.fail(f'{process.args} did not end within {limit:g} s:\n{stdout}\n{stderr}'[-4000:])
    finally:
        kill_command(process)
        _started.remove(process)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def kill_command(process: Command) -> None:
    """Kill a command of :func:`start_command` and all that it started."""
    with contextlib.suppress(ProcessLookupError):  # all of them ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(LIMIT)


def fork_child(work: Callable[[], None]) -> int:
    """Run ``work`` in a fork of this process; returns the number of the fork."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            work()
        os._exit(1)
    _forked.append(child)
    return child


def fork_interpreter(work: Callable[[], Any]) -> int:
    """Run ``work`` in a fork that ends as an interpreter does, unlike :func:`fork_child`."""
    child = os.fork()
    if child == 0:
        work()
        sys.exit()
    _forked.append(child)
    return child


def wait_child(child: int, limit: float) -> int:
    """Status of a fork; negative for a signal, 99 if it did not end within ``limit`` seconds."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            _forked.remove(child)
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    kill_child(child)
    return 99


def kill_child(child: int) -> None:
    """Kill a process of :func:`fork_child`."""
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    _forked.remove(child)


def kill_started() -> None:
    """Kill every command and fork of this module that nothing has ended since."""
    while _started:
        kill_command(_started.pop())
    while _forked:
        kill_child(_forked[-1])


if __name__ == '__main__':
    sys.exit(0 if fork_ranks(*pickle.loads(bytes.fromhex(sys.argv[1]))) else 1)
