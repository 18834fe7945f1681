"""What every test starts from."""

from collections.abc import Iterator

import pytest
from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer


@pytest.fixture(autouse=True)
def _own_logs():
    """MMEngine's loggers, message hubs and visualizers, found by name, do not outlive a test.

    A logger keeps the stream that it began with, which pytest closes with the test. And a run's
    name has seconds: a second run of the same config within one wrote into the first one's folder.
    """
    yield
    for kind in _with_subclasses(MMLogger, MessageHub, Visualizer):
        kind._instance_dict.clear()


def _with_subclasses(*kinds: type) -> Iterator[type]:
    for kind in kinds:
        yield kind
        yield from _with_subclasses(*kind.__subclasses__())
