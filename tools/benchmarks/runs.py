"""Training processes: run a command, and measure its time and its peak memory."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class TrainingError(Exception):
    """A training failed or has no results; the message is for the user."""


class Usage(NamedTuple):
    """Exit status, time and memory of a process."""

    status: int
    minutes: float
    memory: float
    """Peak resident memory of the process in MiB, without its child processes."""


def measure(command: list[str], log: Path) -> Usage:
    """Run a command to its end and append its output to ``log``."""
    start = time.monotonic()
    with log.open('a') as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        memory = 0.0
        try:
            while process.poll() is None:
                memory = max(memory, peak_memory(process.pid))
                time.sleep(0.1)
        finally:
            end_process(process)
    return Usage(process.returncode, (time.monotonic() - start) / 60, memory)


def end_process(process: subprocess.Popen, limit: float = 20.0) -> None:
    """Terminate a process that still runs; kill it after ``limit`` seconds."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(limit)


def peak_memory(pid: int) -> float:
    """Peak resident memory of a running process in MiB (Linux); 0 if it has ended.

    ``getrusage`` would include memory that this process had when it started the other one.
    """
    try:
        lines = Path(f'/proc/{pid}/status').read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith('VmHWM:'))


def git_commit() -> str:
    """Short hash of the checkout, with ``+`` if code or configs have local changes."""

    def git(*arguments: str) -> str:
        command = ['git', '-C', str(ROOT), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        return done.stdout.strip()

    commit = git('rev-parse', '--short', 'HEAD')
    changed = git('status', '--porcelain', '--', 'mmdet_losses', 'configs', 'tools')
    return (commit or 'unknown') + ('+' if commit and changed else '')
