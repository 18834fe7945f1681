"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

Item = TypeVar('Item')
LINE_INTERVAL = 10.0
"""Seconds between two plain lines."""


def show_progress(
    items: Iterable[Item], total: int | None, unit: str, stream: TextIO | None = None
) -> Iterator[Item]:
    """Iterate over items and show number, rate and remaining time.

    On a terminal the progress is a bar. In a file or a pipe it is a line every
    :data:`LINE_INTERVAL` seconds, and a last line if there was one before.

    Args:
        items: Anything iterable.
        total: Number of items; ``None`` if it is not known.
        unit: Name of the items, for example 'images'.
        stream: Where to show it; default: standard error.
    """
    stream = sys.stderr if stream is None else stream
    yield from (_bar if stream.isatty() else _lines)(items, total, unit, stream)


def _bar(items: Iterable[Item], total: int | None, unit: str, stream: TextIO) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f'{unit}, {{task.fields[rate]:.1f}} per second'),
        TimeRemainingColumn(),
    )
    start = time.monotonic()
    with Progress(*columns, console=Console(file=stream), transient=True) as progress:
        task = progress.add_task('', total=total, rate=0.0)
        for number, item in enumerate(items, 1):
            yield item
            rate = number / max(time.monotonic() - start, 1e-9)
            progress.update(task, advance=1, rate=rate)


def _lines(items: Iterable[Item], total: int | None, unit: str, stream: TextIO) -> Iterator[Item]:
    start = last = time.monotonic()
    number = 0
    for number, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= LINE_INTERVAL:
            last = now
            print(_line(number, total, unit, now - start), file=stream, flush=True)
    if last > start:
        print(_line(number, number, unit, time.monotonic() - start), file=stream, flush=True)


def _line(number: int, total: int | None, unit: str, seconds: float) -> str:
    rate = number / max(seconds, 1e-9)
    text = f'{number}{f" of {total}" if total else ""} {unit}, {rate:.1f} per second'
    if total and total > number:
        text += f', about {(total - number) / rate:.0f} s left'
    return text
