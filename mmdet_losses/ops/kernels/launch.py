"""Launches of the Triton kernels, and the choice between them and the eager formulas."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Launch(NamedTuple):
    """One launch of a Triton kernel."""

    kernel: Any
    grid: tuple[int, ...]
    args: tuple[Any, ...]
    constants: dict[str, Any]
    moved: int
    """Number of bytes that the kernel reads and writes."""

    @property
    def name(self) -> str:
        """Name of the kernel."""
        return self.kernel.__name__

    @property
    def outputs(self) -> list[Tensor]:
        """Tensors that the kernel writes; the names of these parameters start with ``out_``."""
        names = self.kernel.arg_names
        pairs = zip(names, self.args, strict=False)  # the constants follow the arguments
        return [each for name, each in pairs if name.startswith('out_') and each is not None]

    def run(self) -> None:
        """Run the kernel on the device of its first tensor."""
        device = next(each.device for each in self.args if isinstance(each, Tensor))
        guard = torch.cuda.device(device) if device.type == 'cuda' else contextlib.nullcontext()
        with guard:
            self.kernel[self.grid](*self.args, **self.constants)


_run: list[Callable[[Launch], None]] = []


def use_triton(x: Tensor) -> bool:
    """Whether the Triton kernels take this tensor; otherwise the eager formulas do.

    They take tensors on a GPU, except empty ones, those of 2 ** 31 elements or more, float64 (for
    gradcheck) and tensors that torch.compile traces: it fuses the eager formulas itself.
    """
    if torch.compiler.is_compiling() or type(x) not in (Tensor, torch.nn.Parameter):
        return False
    if x.dtype == torch.float64 or not 0 < x.numel() < 2**31:
        return False
    return bool(_run) or (x.is_cuda and _has_triton())


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec('triton') is not None


def gpu_kernels(name: str) -> ModuleType:
    """The module of that name in ``gpu``, which imports triton."""
    return importlib.import_module(f'mmdet_losses.ops.kernels.gpu.{name}')


def launch(
    kernel: Any, grid: tuple[int, ...], *args: Any, moved: int = 0, **constants: Any
) -> None:
    """Launch a kernel once.

    Args:
        args: tensors and numbers, in the order of the kernel's parameters.
        moved: number of bytes that the kernel reads and writes, for a counter of launches.
        constants: compile-time constants of the kernel.
    """
    call = Launch(kernel, grid, args, constants, moved)
    if _run:
        _run[-1](call)
    else:
        call.run()


def bytes_of(*tensors: Tensor | None) -> int:
    """Number of bytes of the tensors; cells that an expanded tensor repeats count once."""
    return sum(
        min(each.numel() * each.element_size(), each.untyped_storage().nbytes())
        for each in tensors
        if each is not None
    )


class ExpectedGradient:
    """Context in which a loss is computed that is then multiplied by ``factor``.

    The kernels multiply the gradient by the factor when they write it, so the backward pass does
    not read and write the map once more.
    """

    current = 1.0

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __enter__(self) -> None:
        if not torch.compiler.is_compiling():  # no kernel of this package runs there
            self.outer = ExpectedGradient.current
            ExpectedGradient.current = self.outer * self.factor

    def __exit__(self, *_: object) -> None:
        if not torch.compiler.is_compiling():
            ExpectedGradient.current = self.outer


@contextlib.contextmanager
def intercept_launches(run: Callable[[Launch], None] = Launch.run) -> Iterator[None]:
    """Take the path of a GPU for tensors on any device, and pass each launch to ``run``.

    Triton's interpreter (``TRITON_INTERPRET=1`` before triton is imported) runs the kernels on the
    CPU. A counter needs no interpreter: it counts the launch and fills ``Launch.outputs``.

    Example:
        >>> with intercept_launches():
        ...     use_triton(torch.zeros(1)), use_triton(torch.zeros(1, dtype=torch.float64))
        (True, False)
    """
    _run.append(run)
    try:
        yield
    finally:
        _run.pop()
