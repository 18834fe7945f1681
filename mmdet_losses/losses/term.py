"""Base of the loss terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from mmdet_losses.losses.slots import Kind, check_slot
from mmdet_losses.ops import REDUCTIONS, Reduction, Splats, check_choice
from mmdet_losses.ops.kernels.launch import ExpectedGradient


class LossTerm(nn.Module):
    """A loss function as a component, called like the losses of MMDetection.

    Args:
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: factor on the result.
        options: further arguments of :attr:`function`; each becomes an attribute.
    """

    function: Callable[..., Tensor]
    fits: tuple[Kind, ...] = ()
    """What the loss takes in a head of MMDetection."""
    check_slot = check_slot
    use_sigmoid = False
    """Heads of MMDetection read it before their losses are checked."""

    def __init__(
        self, reduction: Reduction = 'mean', loss_weight: float = 1.0, **options: Any
    ) -> None:
        super().__init__()
        check_choice('reduction', reduction, REDUCTIONS)
        self.reduction, self.loss_weight = reduction, loss_weight
        self._names = tuple(options)
        for name, value in options.items():
            setattr(self, name, value)

    def forward(
        self,
        pred: Tensor,
        target: Tensor | Splats,
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,
        reduction_override: Reduction | None = None,
    ) -> Tensor:
        """:attr:`function` of the inputs; ``reduction_override`` replaces ``reduction``."""
        return self.evaluate(
            pred, target, weight, avg_factor=avg_factor, reduction=reduction_override
        )

    def evaluate(self, *inputs: Any, reduction: Reduction | None, **more: Any) -> Tensor:
        """:attr:`function` of the inputs and the stored options, times ``loss_weight``."""
        options = {name: getattr(self, name) for name in self._names}
        with ExpectedGradient(self.loss_weight):
            loss = self.function(*inputs, reduction=reduction or self.reduction, **options, **more)
        return loss if self.loss_weight == 1 else self.loss_weight * loss
