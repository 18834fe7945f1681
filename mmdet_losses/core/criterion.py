"""Base class of a criterion, and helpers for its terms."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic

import torch
import torch.nn.functional as F
from mmdet.models.losses import CrossEntropyLoss, FocalLoss, GaussianFocalLoss
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet_losses.core.types import OutputsT, TargetsT, stacks
from mmdet_losses.ops import Splats, at_least_one, promote
from mmdet_losses.ops.kernels.launch import ExpectedGradient
from mmdet_losses.registry import MODELS


class DetectorLoss(BaseModule, Generic[OutputsT, TargetsT]):
    """Criterion: computes the named, weighted loss terms of a detector from outputs and targets.

    The sum of the terms is the loss of the detector. Each term module has its own ``loss_weight``;
    the subclass contains the normaliser of each term.

    Args:
        class_weight: one factor per class on the costs of classification, see the class; None
            does not weigh. Divisors do not change.

    Raises:
        ValueError: a negative or infinite factor.
    """

    class_weight: Tensor | None

    def __init__(
        self, init_cfg: dict | None = None, class_weight: Sequence[float] | None = None
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        weight = None
        if class_weight is not None:
            weight = torch.tensor(class_weight, dtype=torch.float32, device='cpu')
            if not (weight.isfinite() & (weight >= 0)).all():
                raise ValueError(
                    f'class_weight has an invalid entry: {tuple(class_weight)}; give finite '
                    'numbers from 0.'
                )
        self.register_buffer('class_weight', weight, persistent=False)

    def weights(self, num_classes: int, background: int = 0) -> Tensor | None:
        """(num_classes,) class weights, followed by ones for ``background`` more classes.

        Raises:
            ValueError: the number of weights is not ``num_classes``.
        """
        if self.class_weight is None:
            return None
        if len(self.class_weight) != num_classes:
            raise ValueError(
                f'class_weight has {len(self.class_weight)} entries but the network '
                f'has {num_classes} classes; give one weight per class.'
            )
        return F.pad(self.class_weight, (0, background), value=1.0)

    @abstractmethod
    def forward(self, outputs: OutputsT, targets: TargetsT) -> dict[str, Tensor]:
        """Returns ``{'loss_<term>': scalar}``."""


TERMS = {
    'classes': 'SigmoidFocalLoss',
    'mined classes': 'HardNegativeCrossEntropyLoss',
    'flat classes': "MMDetection's FocalLoss",
    'heatmaps': "PenaltyReducedFocalLoss or MMDetection's GaussianFocalLoss",
    'embeddings': 'PullPushLoss',
}
"""What a criterion passes to a term -> a term that takes it."""


def build_term(
    config: dict | nn.Module, name: str = 'the term', takes: Sequence[str] = ()
) -> nn.Module:
    """A term built from its config, or the module itself.

    A name in MMDetection's registry refers to that entry under any default scope.

    Args:
        name: argument of the criterion, for the message.
        takes: keys of :data:`TERMS`, the term must fit one of them; empty accepts every term.

    Raises:
        ValueError: the term is known to take something else. Terms of other packages are accepted.
    """
    if isinstance(config, nn.Module):
        term = config
    else:
        known = config['type'] in MODELS.module_dict
        term = MODELS.build({'_scope_': MODELS.scope, **config} if known else config)
    fits = _fits(term)
    if takes and fits is not None and not set(takes) & set(fits):
        raise ValueError(
            f'{name} is {type(term).__name__}, which does not take {takes[0]}; choose '
            f'{" or ".join(TERMS[each] for each in takes)}.'
        )
    return term


def _fits(term: nn.Module) -> tuple[str, ...] | None:
    """What a term takes; None if it is unknown."""
    fits = getattr(term, 'fits', ())
    if getattr(term, 'accepts_splats', False):
        fits = (*fits, 'heatmaps')
    if fits or not type(term).__module__.startswith(('mmdet.', 'torch.nn.')):
        return fits or None
    if isinstance(term, GaussianFocalLoss):
        return ('heatmaps',)
    sigmoid = getattr(term, 'use_sigmoid', False)
    return ('flat classes',) if sigmoid and isinstance(term, FocalLoss | CrossEntropyLoss) else ()


def heatmap_term(
    term: nn.Module,
    pred: Tensor,
    target: Splats,
    counted: Tensor | None = None,
    class_weight: Tensor | None = None,
    **kwargs: Tensor,
) -> Tensor:
    """Call a heatmap term, with splats if it has ``accepts_splats=True``, else with the dense map.

    MMDetection's ``GaussianFocalLoss`` gets the arguments that its own heads pass: clamped scores,
    and the number of positives as ``avg_factor``.

    Args:
        counted: (B, C, H, W) bool, the cells that count; None counts all.
        class_weight: (C,) factors of the channels. Their product with ``counted`` is passed as
            ``weight``; without both nothing is passed, so that a term without weights can be used.
    """
    if class_weight is not None:
        factor = class_weight.view(-1, 1, 1)
        counted = factor.expand(pred.shape) if counted is None else counted * factor
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
    each = stacks(outputs)
    if len(each) == 1:
        return terms_of(each[0])
    with ExpectedGradient(1 / len(each)):
        per_stack = [terms_of(stack) for stack in each]
    return {name: torch.stack([terms[name] for terms in per_stack]).mean() for name in per_stack[0]}


def sum_terms(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Add the terms of several maps by name."""
    if len(parts) == 1:
        return parts[0]
    return {name: torch.stack([terms[name] for terms in parts]).sum() for name in parts[0]}
