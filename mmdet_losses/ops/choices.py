"""Check of an argument that has a fixed set of values."""

from __future__ import annotations

from collections.abc import Iterable


def check_choice(name: str, value: object, allowed: Iterable[str]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of ``allowed``.

    Args:
        name: name of the argument, for the message.

    Example:
        >>> check_choice('mode', 'crop', ('fix', 'keep'))
        Traceback (most recent call last):
        ValueError: mode='crop' is unknown; choose 'fix' or 'keep'.
    """
    choices = list(allowed)
    if value not in choices:
        *first, last = map(repr, choices)
        names = f'{", ".join(first)} or {last}' if first else last
        raise ValueError(f'{name}={value!r} is unknown; choose {names}.')
