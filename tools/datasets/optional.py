"""Packages that only some tools need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def packages_of(extra: str) -> Iterator[None]:
    """Context of imports of an extra of ``setup.py``.

    Raises:
        ValueError: a package is missing; the message has the command that installs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ValueError(
            f'the package {error.name} is not installed: run '
            f"`pip install 'mmdet_losses[{extra}]'`, or `make env` in a checkout."
        ) from error
