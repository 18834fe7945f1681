"""Every test starts with fresh logs, and leaves no process behind."""

import gc
from collections.abc import Iterator

import pytest
from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer

from tests.processes import kill_started


def pytest_collection_finish() -> None:
    """Take everything that is imported out of the garbage collection.

    Each data set of MMEngine collects the garbage of the process, all modules included.
    """
    gc.freeze()


@pytest.fixture(autouse=True)
def _own_logs():
    """Remove MMEngine's loggers, message hubs and visualizers, which it finds by name.

    A logger keeps its first stream, and pytest closes that stream after the test. The name of a run
    is a time in seconds, so two runs of a config in one second would share a folder.
    """
    yield
    for kind in _with_subclasses(MMLogger, MessageHub, Visualizer):
        kind._instance_dict.clear()


@pytest.fixture(autouse=True)
def _no_process_is_left():
    yield
    kill_started()


def _with_subclasses(*kinds: type) -> Iterator[type]:
    for kind in kinds:
        yield kind
        yield from _with_subclasses(*kind.__subclasses__())
