"""Types shared by all detectors."""

from __future__ import annotations

from typing import TypeVar

Size = tuple[int, int]
"""(height, width)."""

OutputsT = TypeVar('OutputsT', bound=tuple)
TargetsT = TypeVar('TargetsT', bound=tuple)


def stacks(outputs: OutputsT) -> tuple[OutputsT, ...]:
    """Outputs of every stack of a network, first stack first.

    An ``Outputs`` tuple holds the tensors of the last stack, which is used at test time. The
    earlier stacks are in its field ``earlier``.
    """
    return (*getattr(outputs, 'earlier', ()), outputs)
