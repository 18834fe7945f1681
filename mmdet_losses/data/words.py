"""Words of messages."""

from __future__ import annotations


def plural(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun, and with its verb if the words have one.

    Args:
        one: words for a number of 1.
        many: words for other numbers; default ``one`` with an s.

    Example:
        >>> plural(1, 'box is', 'boxes are'), plural(3, 'image')
        ('1 box is', '3 images')
    """
    return f'{number} {one if number == 1 else many or f"{one}s"}'
