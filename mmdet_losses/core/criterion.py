"""Base class of a criterion, and helpers for its terms."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic

import torch
from mmdet.models.losses import GaussianFocalLoss
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet_losses.core.types import OutputsT, TargetsT, stacks
from mmdet_losses.ops import Splats, at_least_one, promote
from mmdet_losses.registry import MODELS


class DetectorLoss(BaseModule, Generic[OutputsT, TargetsT]):
    """Criterion: computes the named, weighted loss terms of a detector from outputs and targets.

    The sum of the terms is the loss of the detector. Each term module has its own ``loss_weight``;
    the subclass contains the normaliser of each term.
    """

    @abstractmethod
    def forward(self, outputs: OutputsT, targets: TargetsT) -> dict[str, Tensor]:
        """Returns ``{'loss_<term>': scalar}``."""


def build_term(config: dict | nn.Module) -> nn.Module:
    """A term built from its config, or the module itself.

    A name in MMDetection's registry refers to that entry under any default scope.
    """
    if isinstance(config, nn.Module):
        return config
    known = config['type'] in MODELS.module_dict
    return MODELS.build({'_scope_': MODELS.scope, **config} if known else config)


def heatmap_term(
    term: nn.Module, pred: Tensor, target: Splats, counted: Tensor | None = None, **kwargs: Tensor
) -> Tensor:
    """Call a heatmap term, with splats if it has ``accepts_splats=True``, else with the dense map.

    MMDetection's ``GaussianFocalLoss`` gets the arguments that its own heads pass: clamped scores,
    and the number of positives as ``avg_factor``.

    Args:
        counted: (B, C, H, W) bool, the cells that count, passed as ``weight``; None counts all and
            passes nothing, so that a term without weights can be used.
    """
    if counted is not None:
        kwargs = {'weight': counted, **kwargs}
    if isinstance(term, GaussianFocalLoss):
        pred = promote(pred).sigmoid().clamp(1e-4, 1 - 1e-4)
        kwargs = {'avg_factor': at_least_one((target.value == 1).sum()), **kwargs}
    sparse = getattr(term, 'accepts_splats', False)
    return term(pred, target if sparse else target.dense(), **kwargs)


def mean_over_stacks(
    terms_of: Callable[[OutputsT], dict[str, Tensor]], outputs: OutputsT
) -> dict[str, Tensor]:
    """Mean of every term over the stacks of a network (intermediate supervision)."""
    per_stack = [terms_of(stack) for stack in stacks(outputs)]
    return {name: torch.stack([terms[name] for terms in per_stack]).mean() for name in per_stack[0]}


def sum_terms(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Add the terms of several maps by name."""
    return {name: torch.stack([terms[name] for terms in parts]).sum() for name in parts[0]}
