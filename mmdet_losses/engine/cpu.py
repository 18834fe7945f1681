"""Training on a CPU in good time: bfloat16 where the CPU computes it, channels last."""

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
    """Whether this CPU multiplies bfloat16 matrices itself (AMX or AVX512-BF16)."""
    checks = ('_is_amx_tile_supported', '_is_avx512_bf16_supported')  # torch 2.4 and newer
    return any(getattr(torch.cpu, check, lambda: False)() for check in checks)


@OPTIM_WRAPPERS.register_module()
class CPUAutocastOptimWrapper(OptimWrapper):
    """Mixed precision on a CPU, which MMEngine's ``AmpOptimWrapper`` refuses.

    Layers run in bfloat16, whose range needs no loss scaling; our losses promote to float32. Where
    the CPU would only emulate bfloat16, training runs in float32 as ever.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """The context of one forward pass."""
        with (
            super().optim_context(model),
            torch.autocast('cpu', dtype=torch.bfloat16, enabled=cpu_has_bfloat16()),
        ):
            yield


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Keep the model's weights channels last before training: same numbers, less reordering.

    A model that several processes share stays as it is: its gradient buckets have a layout already.
    """

    def before_train(self, runner: Runner) -> None:
        """Convert in place."""
        if not is_model_wrapper(runner.model):
            runner.model.to(memory_format=torch.channels_last)
