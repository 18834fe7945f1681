"""Caffe's stochastic gradient descent, which the original code of SSD trains with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from mmdet_losses.registry import OPTIMIZERS


@OPTIMIZERS.register_module()
class CaffeSGD(Optimizer):
    r"""SGD whose momentum contains the learning rate.

    .. math:: v \leftarrow \mu v + \eta (g + \lambda w), \qquad w \leftarrow w - v

    ``torch.optim.SGD`` multiplies by :math:`\eta` after the momentum. The two are equal while the
    rate is constant. After a drop, Caffe's weights continue with the velocity of the old rate,
    which fades by :math:`\mu` per update.

    Args:
        params: parameters or groups.
        lr: :math:`\eta`.
        momentum: :math:`\mu`.
        weight_decay: :math:`\lambda`.

    Example:
        >>> w = torch.zeros(1, requires_grad=True)
        >>> optimizer = CaffeSGD([w], lr=1.0, momentum=0.5)
        >>> values = []
        >>> for rate in (1.0, 0.0):
        ...     optimizer.param_groups[0]['lr'] = rate
        ...     w.grad = torch.ones(1)
        ...     _ = optimizer.step()
        ...     values.append(w.item())
        >>> values
        [-1.0, -1.5]

    Reference:
        ``SGDSolver::ComputeUpdateValue`` of Caffe, read, not run.
    """

    def __init__(
        self, params: Any, lr: float = 1e-3, momentum: float = 0.9, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update; ``closure`` computes the loss again, which is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights: list[Tensor] = [each for each in group['params'] if each.grad is not None]
            if weights:
                self._update(group, weights)
        return loss

    def _update(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        states = [self.state[each] for each in weights]
        for weight, state in zip(weights, states, strict=True):
            if not state:
                state['momentum_buffer'] = torch.zeros_like(weight)
        velocities = [state['momentum_buffer'] for state in states]
        gradients = [each.grad for each in weights if each.grad is not None]
        changes = torch._foreach_add(gradients, weights, alpha=group['weight_decay'])
        torch._foreach_mul_(velocities, group['momentum'])
        torch._foreach_add_(velocities, changes, alpha=group['lr'])
        torch._foreach_sub_(weights, velocities)
