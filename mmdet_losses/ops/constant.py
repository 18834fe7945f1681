"""Small constant tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Numbers = float | Sequence['Numbers']


def constant(values: Numbers, like: Tensor) -> Tensor:
    """``like.new_tensor(values)`` without synchronising the device.

    Copying a list to a GPU synchronises; filling a short table on the device takes a few kernel
    launches instead.

    Args:
        values: a number, or nested sequences of numbers of equal length.
        like: a tensor with the device and dtype of the result.
    """
    if like.device.type == 'cpu':
        return like.new_tensor(values)
    if isinstance(values, Sequence):
        return torch.stack([constant(each, like) for each in values])
    return like.new_full((), values)
