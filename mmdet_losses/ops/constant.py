"""Constant tensors, made once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

Numbers = float | Sequence['Numbers']
Result = TypeVar('Result')

_caches: list[dict[Any, Any]] = []


def made_once(entries: int = 256) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Decorator: keep the tensors that a function makes from numbers, per set of arguments.

    A GPU launches a kernel for every small operation, so tables that depend on sizes alone are
    made in the first step and used in the others. Their values must not be modified. Arguments are
    numbers, tuples, lists, devices, types and objects. Nothing is kept while torch.compile traces.

    Args:
        entries: number of results that are kept; multi-scale training needs a few per size.
    """

    def decorate(function: Callable[..., Result]) -> Callable[..., Result]:
        """``function`` with a cache of its own."""
        cache: dict[Any, Any] = {}
        _caches.append(cache)

        @wraps(function)
        def kept(*args: Any) -> Result:
            """The kept result, made in the first call with these arguments."""
            if torch.compiler.is_compiling():
                return function(*args)
            key = _hashable(args)
            if key not in cache:
                with torch.inference_mode(False), torch.no_grad():
                    result = function(*args)
                if any(type(leaf).__name__ == 'FakeTensor' for leaf in tree_leaves(result)):
                    return result
                if len(cache) >= entries:
                    cache.pop(next(iter(cache)))
                cache[key] = result
            return cache[key]

        return kept

    return decorate


def forget_constants() -> None:
    """Free the tensors that :func:`made_once` keeps."""
    for cache in _caches:
        cache.clear()


def _hashable(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(map(_hashable, value))
    return (type(value), value) if isinstance(value, bool | int | float) else value


def constant(values: Numbers, like: Tensor) -> Tensor:
    """``like.new_tensor(values)`` without synchronising the device, made once; do not modify it.

    Copying a list to a GPU synchronises. Filling a short table on the device takes a few kernel
    launches instead, in the first step only.

    Args:
        values: a number, or nested sequences of numbers of equal length.
        like: a tensor with the device and dtype of the result.
    """
    if like.device.type == 'cpu':
        return like.new_tensor(values)
    return _filled(values, like.dtype, like.device)


def counting(length: int, device: torch.device | str) -> Tensor:
    """The int64 numbers 0 ... length - 1, made once; do not modify them."""
    return _counting(length, torch.device(device))


@made_once()
def _counting(length: int, device: torch.device) -> Tensor:
    return torch.arange(length, device=device)


@made_once()
def _filled(values: Numbers, dtype: torch.dtype, device: torch.device) -> Tensor:
    return _fill(values, dtype, device)


def _fill(values: Numbers, dtype: torch.dtype, device: torch.device) -> Tensor:
    if isinstance(values, Sequence):
        return torch.stack([_fill(each, dtype, device) for each in values])
    return torch.full((), values, dtype=dtype, device=device)


def zero_unless(mask: Tensor, values: Tensor) -> Tensor:
    """``values`` where ``mask`` is true, otherwise 0; one launch."""
    return torch.where(mask, values, constant(0, values))
