"""Faster training on a CPU: native bfloat16 and the channels-last memory format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn

from mmdet_losses.registry import HOOKS, OPTIM_WRAPPERS


def cpu_has_bfloat16() -> bool:
    """Whether this CPU has bfloat16 matrix instructions (AMX or AVX512-BF16)."""
    checks = ('_is_amx_tile_supported', '_is_avx512_bf16_supported')  # torch 2.4 and newer
    return any(getattr(torch.cpu, check, lambda: False)() for check in checks)


@OPTIM_WRAPPERS.register_module()
class CPUAutocastOptimWrapper(OptimWrapper):
    """Mixed precision on a CPU, which MMEngine's ``AmpOptimWrapper`` does not support.

    Layers run in bfloat16, whose range needs no loss scaling; our losses promote to float32. On a
    CPU without bfloat16 instructions training runs in float32.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Context of one forward pass."""
        with (
            super().optim_context(model),
            torch.autocast('cpu', dtype=torch.bfloat16, enabled=cpu_has_bfloat16()),
        ):
            yield


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Convert the weights to channels last before training: equal results, fewer conversions.

    A distributed model is not converted, because its gradient buckets already have a layout.
    """

    def before_train(self, runner: Runner) -> None:
        """Convert in place."""
        if not is_model_wrapper(runner.model):
            runner.model.to(memory_format=torch.channels_last)
