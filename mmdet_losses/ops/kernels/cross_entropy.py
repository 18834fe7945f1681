"""Cross-entropy with a gradient for chosen entries only."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import Parameter

from mmdet_losses.ops.kernels.focal import CHUNK

LOWEST = 1e-30
"""Smallest sum of exponentials that is exact in float32."""


def chosen_cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy over dimension 1, equal to ``F.cross_entropy(..., reduction='none')``.

    Faster where most entries get a gradient of 0, as in hard negative mining: on the CPU the
    gradient is computed for the others only. A GPU computes all, because a selection would
    synchronise.

    Shape:
        logits: (N, C, L). label: (N, L) int64. Returns (N, L).
    """
    if torch.compiler.is_compiling():
        return F.cross_entropy(logits, label, reduction='none')
    return _ChosenCrossEntropy.apply(logits, label)


class _ChosenCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, label: Tensor) -> Tensor:
        """Cost (N, L); a CPU keeps the logits, a GPU the logarithms."""
        ctx.sparse = logits.device.type == 'cpu' and type(logits) in (Tensor, Parameter)
        if not ctx.sparse:
            logs = logits.log_softmax(1)
            ctx.save_for_backward(logs, label)
            return -logs.gather(1, label[:, None]).squeeze(1)
        ctx.save_for_backward(logits, label)
        return _costs(logits.detach(), label)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Softmax minus one-hot, where ``grad`` is not 0."""
        if not ctx.sparse:
            logs, label = ctx.saved_tensors
            slopes = logs.exp().mul_(grad[:, None])
            return slopes.scatter_add_(1, label[:, None], -grad[:, None]), None
        logits, label = ctx.saved_tensors
        row, column = grad.nonzero(as_tuple=True)
        chosen = logits[row, :, column].softmax(1)
        own = label[row, column, None]
        chosen.scatter_add_(1, own, -torch.ones_like(chosen[:, :1]))
        slopes = torch.zeros_like(logits)
        slopes[row, :, column] = chosen.mul_(grad[row, column, None])
        return slopes, None


def _costs(logits: Tensor, label: Tensor) -> Tensor:
    """Cost (N, L): logarithm of the sum of exp(x) over dimension 1, over exp of the label's logit.

    The logarithm of the quotient, because a difference of two logarithms is less exact.
    """
    total = exponential_sums(logits)
    own = logits.gather(1, label[:, None]).squeeze(1)
    if total is not None:
        costs = own.neg().exp_().mul_(total).log_()
        if costs.isfinite().all():
            return costs
    return logits.logsumexp(1) - own


def exponential_sums(logits: Tensor) -> Tensor | None:
    """Sum of exp(x) over dimension 1 of (N, C, L); None if one is not exact in the dtype.

    In chunks that fit into the cache; a map of exponentials would be fresh memory in every step.
    """
    rows, classes, cells = logits.shape
    total = logits.new_empty((rows, cells))
    step = max(1, CHUNK // max(1, classes * cells))
    width = max(1, cells if step > 1 else min(cells, CHUNK // classes))
    memory = logits.new_empty(min(step, rows) * classes * width)
    for start in range(0, rows, step):
        for column in range(0, cells, width):
            part = slice(start, start + step), slice(column, column + width)
            x = logits[part[0], :, part[1]]
            powers = torch.exp(x, out=memory[: x.numel()].view(x.shape))
            torch.sum(powers, 1, out=total[part])
    return total if ((total > LOWEST) & total.isfinite()).all() else None
