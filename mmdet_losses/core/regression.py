"""Regression terms of a criterion: which of them compare deltas, and which boxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmdet_losses.core.criterion import build_term
from mmdet_losses.ops import constant

Kind = Literal['deltas', 'boxes']
MMDET_KINDS: dict[str, Kind] = {
    **dict.fromkeys(('L1Loss', 'SmoothL1Loss', 'MSELoss', 'BalancedL1Loss'), 'deltas'),
    **dict.fromkeys(
        ('IoULoss', 'GIoULoss', 'DIoULoss', 'CIoULoss', 'EIoULoss', 'SIoULoss'), 'boxes'
    ),
    'BoundedIoULoss': 'boxes',
}
"""What the losses of MMDetection compare."""


def regression_kind(term: nn.Module) -> Kind | None:
    """What a term compares: its attribute ``regresses``, known for MMDetection's losses."""
    known = None
    if type(term).__module__.startswith('mmdet.'):
        known = MMDET_KINDS.get(type(term).__name__)
    return getattr(term, 'regresses', known)


def build_regression(config: dict | nn.Module, name: str, only: Kind | None = None) -> nn.Module:
    """A regression term built from its config.

    Args:
        name: argument of the criterion, for the message.
        only: the kind that fits; None accepts both.

    Raises:
        ValueError: the term declares no kind, or another one.
    """
    term = build_term(config)
    kind, found = regression_kind(term), type(term).__name__
    if kind not in ('deltas', 'boxes'):
        raise ValueError(
            f'{name} is {found}, which does not declare what it compares; choose a regression '
            "term, or set its class attribute regresses = 'deltas' or 'boxes'."
        )
    if only is not None and kind != only:
        raise ValueError(
            f'{name} is {found}, which compares {kind}, but here it gets {only}; choose a term of '
            f'{only}.'
        )
    return term


def regress(
    term: nn.Module,
    pred: Tensor,
    target: Tensor,
    mask: Tensor,
    avg_factor: Tensor,
    decode: Callable[[Tensor], Tensor],
) -> Tensor:
    """A term over deltas (B, M, 4) and their ``mask`` (B, M), or over the boxes they decode to."""
    if regression_kind(term) == 'boxes':
        return compare_boxes(term, decode(pred), decode(target), mask, avg_factor=avg_factor)
    return compare_deltas(term, pred, target, mask, avg_factor)


def compare_deltas(
    term: nn.Module, pred: Tensor, target: Tensor, mask: Tensor, avg_factor: Tensor
) -> Tensor:
    """A term of deltas (B, M, D) over the slots, or values, where ``mask`` is true."""
    if not hasattr(term, 'regresses'):  # MMDetection's terms need a weight per value
        mask = mask if mask.dim() == pred.dim() else mask[..., None]
        mask = mask.expand_as(pred).to(pred.dtype)
    return term(pred, target, mask, avg_factor=avg_factor)


def compare_boxes(
    term: nn.Module, pred: Tensor, target: Tensor, mask: Tensor, **kwargs: Any
) -> Tensor:
    """A term of boxes over the slots (..., 4) where ``mask`` (...) is true, or a float weight.

    Boxes and weights are passed as (n, 4), which MMDetection's terms need. Other slots get constant
    boxes, so that they cannot contribute a NaN.
    """
    here = mask[..., None] != 0
    pred = torch.where(here, pred, constant([0, 0, 1, 1], pred)).reshape(-1, 4)
    target = torch.where(here, target, constant([0, 0, 2, 2], target)).reshape(-1, 4).to(pred)
    weight = mask.reshape(-1, 1).expand(-1, 4).to(pred.dtype)
    loss = term(pred, target, weight, **kwargs)
    return loss.reshape(*mask.shape, -1).sum(-1) if loss.dim() else loss
