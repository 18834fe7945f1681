"""Numbers of the host on the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Numbers = float | Sequence['Numbers']


def constant(values: Numbers, like: Tensor) -> Tensor:
    """``like.new_tensor(values)`` that never waits for the device.

    To copy a list to a GPU, the host waits for all that it has been given to do; filled there,
    number by number, a short table costs a few launches instead.

    Args:
        values: a number, or nested sequences of numbers of equal length.
        like: its device and type are the result's.
    """
    if like.device.type == 'cpu':
        return like.new_tensor(values)
    if isinstance(values, Sequence):
        return torch.stack([constant(each, like) for each in values])
    return like.new_full((), values)
