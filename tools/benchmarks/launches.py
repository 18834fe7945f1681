"""Counter of kernel launches, bytes and host synchronisations on the path that a GPU takes.

No GPU is needed. Tensors on the device ``meta`` take the path of a GPU. :class:`OnDevice` is such a
tensor with values, for code that reads one.

Counted, not measured: one operator that is no view is one launch. On a real GPU a few operators
(sorting, top-k, prefix sums) need several kernels, and a copy of memory is no kernel.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from mmdet_losses.ops import forget_constants
from mmdet_losses.ops.kernels.launch import Launch, intercept_launches

DEVICE = torch.device('meta')
ALLOCATIONS = {'empty', 'empty_like', 'empty_strided', 'new_empty', 'new_empty_strided'}
READERS = {'gather', 'index', 'index_select', 'embedding'}
"""Operators that read as many values of their first argument as they return."""
WRITERS = {'scatter_', 'scatter_add_', 'scatter_reduce_', 'index_add_', 'index_put_', 'index_copy_'}
"""Operators that change as many values of their first argument as they are given."""
SYNCS = {'_local_scalar_dense', 'equal', 'masked_select', 'nonzero', 'bincount'}
"""Operators whose result, or the shape of it, is needed by the host."""
MAKERS = (torch.tensor, torch.as_tensor, Tensor.new_tensor)


class Counts(NamedTuple):
    """Work of a function on the device."""

    launches: int
    bytes: int
    """Read and written."""
    syncs: int

    def __add__(self, other: tuple) -> Counts:  # type: ignore[override]
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


class OnDevice(Tensor):
    """A tensor with values in ``held`` that reports :data:`DEVICE`."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnDevice:
        tensor = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        tensor.held = held
        return tensor

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return LaunchCounter().__torch_dispatch__(func, types, args, kwargs)


def on_device(tree: Any) -> Any:
    """All tensors of a tree as :class:`OnDevice`; leaves that need gradients need them again."""

    def moved(value: Any) -> Any:
        if not isinstance(value, Tensor) or isinstance(value, OnDevice):
            return value
        return OnDevice(value.detach()).requires_grad_(value.requires_grad)

    return tree_map(moved, tree)


class LaunchCounter(TorchDispatchMode):
    """Counts the operators on tensors of the device ``meta``; those of the host are not counted.

    Args:
        values: new tensors of the device are :class:`OnDevice`.
        host: count operators on tensors of the host as well, as if they were on the device: for
            code whose path does not depend on the device.

    Attributes:
        operators: number of launches per operator.
        reasons: number of synchronisations per operator.
    """

    def __init__(self, values: bool = True, host: bool = False) -> None:
        super().__init__()
        self.values, self.host = values, host
        self.operators: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.bytes = 0

    @property
    def counts(self) -> Counts:
        """The totals."""
        return Counts(sum(self.operators.values()), self.bytes, sum(self.reasons.values()))

    def launch(self, name: str, size: int) -> None:
        """Count one launch that reads and writes ``size`` bytes."""
        self.operators[name] += 1
        self.bytes += size

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        leaves = tree_flatten((args, kwargs))[0]
        wrapped = [each for each in leaves if isinstance(each, OnDevice)]
        asked = kwargs.get('device')
        asked = None if asked is None else torch.device(asked)
        if self.host or not self.values:
            return self._without_values(func, args, kwargs, leaves, asked)
        if not wrapped and asked != DEVICE:
            return func(*args, **kwargs)
        owners = {id(each.held): each for each in wrapped}
        held = tree_map(lambda x: x.held if isinstance(x, OnDevice) else x, (args, kwargs))
        if asked is not None:
            held[1]['device'] = torch.device('cpu')
        result = func(*held[0], **held[1])
        name = func.overloadpacket.__name__
        arrived = [each for each in leaves if type(each) is Tensor and each.dim()]
        self._count(name, held, result, bool(arrived))
        if asked is not None and asked != DEVICE and name == '_to_copy':
            self.reasons['copy to the host'] += 1
            return result
        return tree_map(lambda x: _back(x, owners), result)

    def _without_values(self, func, args, kwargs, leaves, asked):
        result = func(*args, **kwargs)
        tensors = [each for each in leaves if isinstance(each, Tensor)]
        name = func.overloadpacket.__name__
        if self.host or asked == DEVICE or any(each.device == DEVICE for each in tensors):
            arrived = any(each.device != DEVICE and each.dim() for each in tensors)
            arrived = name == 'lift_fresh' if self.host else arrived
            self._count(name, (args, kwargs), result, arrived)
        return result

    def _count(self, name: str, held: tuple, result: Any, arrived: bool) -> None:
        outputs, inputs = _tensors(result), _tensors(held)
        if name in SYNCS or name.startswith(('unique', '_unique')):
            self.reasons[name] += 1
        if name.startswith('index') and any(
            each.dtype == torch.bool for each in _tensors(held[0][1])
        ):
            value = held[0][2] if len(held[0]) > 2 else None
            if not (isinstance(value, Tensor) and value.dim() == 0):  # that is a masked fill
                self.reasons[f'{name} with a mask'] += 1
                self.launch('nonzero', _size(inputs[-1:]))
        if arrived:
            self.reasons['copy from the host'] += 1
        known = {each.untyped_storage()._cdata for each in inputs}
        views = all(each.untyped_storage()._cdata in known for each in outputs)
        writes = name.endswith('_') or 'out' in held[1] or name in ('copy_', 'fill_')
        if name in ALLOCATIONS or name == '_local_scalar_dense' or (views and not writes):
            return
        self.launch(name, _moved_bytes(name, inputs, outputs))


class HostCopies(TorchFunctionMode):
    """Counts tensors of the device that are made from Python numbers, and gives them values."""

    def __init__(self, counter: LaunchCounter) -> None:
        super().__init__()
        self.counter = counter

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        device = kwargs.get('device')
        if device is None and func is Tensor.new_tensor:
            device = args[0].device
        if func is Tensor.tolist:
            return func(args[0].cpu())
        if func not in MAKERS or device is None or torch.device(device) != DEVICE:
            return func(*args, **kwargs)
        if not self.counter.values:
            self.counter.reasons['copy from the host'] += 1
            return func(*args, **kwargs)
        if func is Tensor.new_tensor:
            kwargs.setdefault('dtype', args[0].dtype)
            args = args[1:]
        value = torch.tensor(*args, **{**kwargs, 'device': 'cpu'})
        self.counter.reasons['copy from the host'] += 1
        self.counter.launch('copy from the host', 2 * _size([value]))
        return OnDevice(value)


def count_on_meta(function: Callable[[], Any], fused: bool = True) -> LaunchCounter:
    """Counter of a call whose tensors are on the device ``meta``, after one warm-up call.

    Reading a value raises an error; only copies from the host are counted as synchronisations.

    Args:
        fused: count the Triton kernels where they are used, instead of the eager formulas.
    """
    forget_constants()
    for counter in (LaunchCounter(values=False), LaunchCounter(values=False)):
        run = partial(_count_kernel, counter)
        with intercept_launches(run) if fused else nullcontext(), HostCopies(counter), counter:
            function()
    return counter


def count_with_values(function: Callable[[], Any]) -> LaunchCounter:
    """Counter of a call on tensors of :class:`OnDevice`, after one warm-up call; eager formulas."""
    forget_constants()
    for counter in (LaunchCounter(), LaunchCounter()):
        with HostCopies(counter), counter:
            function()
    forget_constants()
    return counter


def count_on_host(function: Callable[[], Any]) -> LaunchCounter:
    """Counter of a call on CPU tensors, as if they were on the device, after one warm-up call."""
    for counter in (LaunchCounter(host=True), LaunchCounter(host=True)):
        with counter:
            function()
    return counter


def _count_kernel(counter: LaunchCounter, launch: Launch) -> None:
    counter.launch(launch.name, launch.moved)


def _back(value: Any, owners: dict[int, OnDevice]) -> Any:
    if not isinstance(value, Tensor) or isinstance(value, OnDevice):
        return value
    return owners[id(value)] if id(value) in owners else OnDevice(value)


def _tensors(tree: Any) -> list[Tensor]:
    return [each for each in tree_flatten(tree)[0] if isinstance(each, Tensor)]


def _size(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors; repeated values of an expanded tensor count once."""
    return sum(
        each.element_size()
        * math.prod(n for n, step in zip(each.shape, each.stride(), strict=True) if step)
        for each in tensors
    )


def _moved_bytes(name: str, inputs: list[Tensor], outputs: list[Tensor]) -> int:
    if name == 'scatter_add' and torch._C._current_autograd_node() is not None:
        name = 'scatter_add_'  # the backward pass of gather; a dispatch mode makes it out of place
    if name in READERS and inputs:
        return _size(inputs[1:]) + 2 * _size(outputs)
    if name in WRITERS or f'{name}_' in WRITERS:
        changed = 2 * _size(inputs[-1:]) + _size(inputs[1:])
        return changed if name in WRITERS else changed + _size(inputs[:1]) + _size(outputs)
    if name in ('fill_', 'zero_'):
        return _size(outputs)
    return _size(inputs) + _size(outputs)
