"""Types that every detector shares."""

from __future__ import annotations

from typing import TypeVar

Size = tuple[int, int]
"""Height and width, in this order."""

OutputsT = TypeVar('OutputsT', bound=tuple)
TargetsT = TypeVar('TargetsT', bound=tuple)


def stacks(outputs: OutputsT) -> tuple[OutputsT, ...]:
    """The outputs of every stack of a network, first stack first.

    An ``Outputs`` tuple holds the tensors of the last stack, which speaks at test time; the stacks
    before it wait in its field ``earlier``.
    """
    return (*getattr(outputs, 'earlier', ()), outputs)
