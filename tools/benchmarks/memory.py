"""Memory of the heatmap focal loss, in multiples of its logits."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from mmdet_losses.registry import MODELS
from tools.benchmarks.heatmaps import Setting, encode, ground_truth, logits_like, points_encoder

MEMORY_BAR = 1.25
"""Greatest allowed peak above the logits, in maps, over forward and backward."""


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operations create, until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for storage in _storages((args, kwargs)):  # created before
            self._follow(storage, 0)
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            self._follow(storage, storage.nbytes())
        return result

    def _follow(self, storage: torch.UntypedStorage, size: int) -> None:
        if storage._cdata not in self.known:
            self.known.add(storage._cdata)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._freed, storage._cdata, size)

    def _freed(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def _storages(tree: object) -> list[torch.UntypedStorage]:
    leaves = tree_flatten(tree)[0]
    return [each.untyped_storage() for each in leaves if isinstance(each, Tensor)]


def memory_of(loss: Callable[[Tensor], Tensor], logits: Tensor) -> tuple[float, float]:
    """Bytes kept for backward and peak above the logits, both in multiples of the logits.

    The loss gets a copy of the logits that has no other reference, like the output of a
    convolution. So logits that are kept for backward are counted.
    """
    size = logits.numel() * logits.element_size()
    with LiveBytes() as live:
        copy = logits + 0
        value = loss(copy)
        del copy
        gc.collect()
        kept = live.now
        (gradient,) = torch.autograd.grad(value, logits)
        peak = live.peak - size
        del gradient, value
    return kept / size, peak / size


def memory_table() -> list[dict]:
    setting = Setting(4, 80, 128, 15)
    target = encode(points_encoder(setting), setting, ground_truth(setting)).heatmap
    dense, logits = target.dense(), logits_like(setting).requires_grad_()
    ours = MODELS.build(dict(type='PenaltyReducedFocalLoss'))
    theirs = MODELS.build(dict(type='mmdet.GaussianFocalLoss'))

    def their_loss(x: Tensor) -> Tensor:
        return theirs(x.sigmoid().clamp(1e-4, 1 - 1e-4), dense, avg_factor=60)

    rows = []
    for name, loss, target_maps in (
        ('ours, sparse', lambda x: ours(x, target), 0.0),
        ('ours, dense', lambda x: ours(x, dense), 1.0),
        ('MMDetection', their_loss, 1.0),
    ):
        kept, peak = memory_of(loss, logits)
        rows.append(
            {'what': name, 'kept_maps': kept, 'peak_maps': peak, 'target_maps': target_maps}
        )
    return rows
