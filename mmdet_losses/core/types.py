"""Types shared by all detectors."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

from torch import Tensor

Size = tuple[int, int]
"""(height, width)."""

OutputsT = TypeVar('OutputsT', bound=tuple)
TargetsT = TypeVar('TargetsT', bound=tuple)


class Detections(NamedTuple):
    """Detections of a batch as tensors of a fixed size, by descending score."""

    boxes: Tensor
    """(B, K, 4) xyxy pixels of the network input."""
    scores: Tensor
    """(B, K); 0 marks padding."""
    labels: Tensor
    """(B, K) int64."""


def stacks(outputs: OutputsT) -> tuple[OutputsT, ...]:
    """Outputs of every stack of a network, first stack first.

    An ``Outputs`` tuple holds the tensors of the last stack, which is used at test time. The
    earlier stacks are in its field ``earlier``.
    """
    return (*getattr(outputs, 'earlier', ()), outputs)
