"""The console of a tool: errors, messages of this package and progress; the log file has all."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from mmdet_losses.engine.closing import metrics_text
from mmdet_losses.engine.progress import Progress

FAULTS = 'MMDET_LOSSES_FAULTS'
"""Variable with the folder where each process writes its error for ``tools/launch.py``."""


@contextlib.contextmanager
def quiet_console() -> Iterator[None]:
    """Print errors and messages of this package only.

    MMEngine's log of a training begins with 200 lines about the environment, the config and the
    hooks. They are in the log file, with the warnings and the lines that pycocotools and MMEngine
    print.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_filtered_loggers())
        stack.enter_context(warnings.catch_warnings())
        warnings.showwarning = _log_warning
        for name in ('pycocotools.coco', 'pycocotools.cocoeval', 'mmengine.logging.logger'):
            module = importlib.import_module(name)
            module.print = _print_function(sys.stdout)  # type: ignore[attr-defined]
            stack.callback(delattr, module, 'print')
        yield


@contextlib.contextmanager
def _filtered_loggers() -> Iterator[None]:
    """Short lines on the console of all loggers of MMEngine, also of those created inside."""
    init = MMLogger.__init__
    changed: list[tuple[logging.Handler, logging.Formatter | None]] = []

    def add_filter(logger: MMLogger) -> None:
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(is_for_the_console)
                changed.append((handler, handler.formatter))
                handler.setFormatter(ConsoleFormatter())

    def filtered(self: MMLogger, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        add_filter(self)

    for logger in MMLogger._instance_dict.values():
        add_filter(logger)
    MMLogger.__init__ = filtered
    try:
        yield
    finally:
        MMLogger.__init__ = init
        for handler, formatter in changed:
            handler.removeFilter(is_for_the_console)
            handler.setFormatter(formatter)


class ConsoleFormatter(logging.Formatter):
    """The message, behind the level of a warning or an error; the log file has time and logger."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        level = f'{record.levelname.lower()}: ' if record.levelno > logging.INFO else ''
        return level + super().format(record)


def is_for_the_console(record: logging.LogRecord) -> bool:
    """Whether a record is an error or comes from code of this package."""
    if record.levelno >= logging.ERROR:
        return True
    frame = sys._getframe(1)
    while frame.f_back is not None:
        name = frame.f_globals.get('__name__', '')
        if name != __name__ and not name.startswith(('logging', 'mmengine.logging')):
            return name.startswith('mmdet_losses.')
        frame = frame.f_back
    return False


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """Replacement of ``warnings.showwarning``."""
    text = f'{filename}:{lineno}: {category.__name__}: {message}'
    MMLogger.get_current_instance().warning(text)


def _print_function(console: Any) -> Callable[..., None]:
    """``print`` that writes to the log file; redirected output stays redirected."""

    def write(*words: Any, **options: Any) -> None:
        if sys.stdout is console:
            MMLogger.get_current_instance().info(' '.join(map(str, words)))
        else:
            print(*words, **options)

    return write


class ConsoleProgressHook(Hook):
    """Shows the progress of a training or test, and the metrics of every validation."""

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self.progress: Progress | None = None

    def before_train(self, runner: Runner) -> None:
        """Start at the iteration of a resumed training."""
        self.progress = Progress(runner.max_iters - runner.iter, 'steps', sys.stdout)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> None:
        """Count one step."""
        assert self.progress is not None
        loss = runner.message_hub.get_scalar('train/loss').current()
        self.progress.advance(f'{_place(runner, 1)}loss {loss:.2f}')

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """Print the metrics."""
        if self.progress is not None:
            place = _place(runner, 0) or f'step {runner.iter}, '
            self.progress.message(f'validation: {place}{metrics_text(metrics or {})}')

    def before_test(self, runner: Runner) -> None:
        """Start at the first batch."""
        self.progress = Progress(len(runner.test_dataloader), 'batches', sys.stdout)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Count one batch."""
        assert self.progress is not None
        self.progress.advance()

    def after_train(self, runner: Runner) -> None:
        """Remove the bar."""
        assert self.progress is not None
        self.progress.close()

    after_test = after_train


def _place(runner: Runner, current: int) -> str:
    """The epoch, if the training counts epochs."""
    epochs = runner.max_epochs
    return f'epoch {runner.epoch + current} of {epochs}, ' if epochs > 1 else ''


def report_error(text: str, known: bool = True) -> None:
    """Print an error; under ``tools/launch.py``, leave it for the launcher, which prints one.

    Args:
        text: message or traceback.
        known: whether the text is a message that explains the fix.
    """
    rank, world = get_dist_info()
    folder = os.environ.get(FAULTS)
    if folder and world > 1:
        content = f'error (rank {rank}): {text}'
        path = Path(folder) / f'{0 if known else 1}_{time.time_ns()}_{rank}'
        with contextlib.suppress(OSError):  # the folder belongs to the launcher of another machine
            path.write_text(content, encoding='utf-8')
            return
    if world > 1 and not _first_report(text):
        return
    print(f'error{f" (rank {rank})" if world > 1 else ""}: {text}', file=sys.stderr, flush=True)


def _first_report(text: str) -> bool:
    """Whether no other process of the group has reported an error that ends with the same line.

    Under srun and torchrun, each process would print its copy of the same error.
    """
    last = text.strip().rpartition('\n')[2]
    try:
        store = torch.distributed.distributed_c10d._get_default_store()
        return store.add(f'mmdet_losses_error_{zlib.crc32(last.encode())}', 1) == 1
    except Exception:  # the process that holds the store may be killed; print rather too often
        return True
