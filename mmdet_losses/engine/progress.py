"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

from tqdm import tqdm

Item = TypeVar('Item')
LINE_INTERVAL = 10.0
"""Seconds between two plain lines."""
FIRST_LINE = 3.0
"""Seconds before the first plain line."""


class Progress:
    """Number, rate and remaining time of long work.

    On a terminal the progress is a bar. In a file or a pipe it is a line every
    :data:`LINE_INTERVAL` seconds, and a last line if there was one before.

    Args:
        total: Number of items; ``None`` if it is not known.
        unit: Name of the items, for example 'images'.
        stream: Where to show it; default: standard error.
    """

    def __init__(self, total: int | None, unit: str, stream: TextIO | None = None) -> None:
        self.total, self.unit = total, unit
        self.stream = sys.stderr if stream is None else stream
        self.number = self.printed = 0
        self.start = self.last = time.monotonic()
        self.bar = None
        if self.stream.isatty():
            self.bar = tqdm(total=total, unit=f' {unit}', file=self.stream, leave=False)

    def advance(self, text: str = '') -> None:
        """Count one item; ``text`` is shown beside the number."""
        self.number += 1
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update()
        elif time.monotonic() - self.last >= (LINE_INTERVAL if self.printed else FIRST_LINE):
            self._print_line(text)

    def message(self, text: str) -> None:
        """Print a line above the bar."""
        if self.bar is not None:
            self.bar.write(text, file=self.stream)
        else:
            print(text, file=self.stream, flush=True)

    def close(self) -> None:
        """Remove the bar, or print the last line."""
        if self.bar is not None:
            self.bar.close()
        elif 0 < self.printed < self.number:
            self._print_line()

    def _print_line(self, text: str = '') -> None:
        now = time.monotonic()
        self.last, self.printed = now, self.number
        rate = self.number / max(now - self.start, 1e-9)
        line = f'{self.number}{f" of {self.total}" if self.total else ""} {self.unit}, '
        line += f'{rate:.1f} per second'
        if self.total and self.total > self.number:
            line += f', about {(self.total - self.number) / rate:.0f} s left'
        self.message(f'{line}{f", {text}" if text else ""}')


def show_progress(
    items: Iterable[Item], total: int | None, unit: str, stream: TextIO | None = None
) -> Iterator[Item]:
    """Iterate over items and show their :class:`Progress`."""
    progress = Progress(total, unit, stream)
    try:
        for item in items:
            yield item
            progress.advance()
    finally:
        progress.close()
