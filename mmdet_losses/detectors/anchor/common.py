"""Parts that the encoders and criteria of SSD and RetinaNet share."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdet_losses.core import IDEAL_LOGIT
from mmdet_losses.detectors.anchor.contracts import RetinaNetTargets, SSDTargets
from mmdet_losses.ops import unflatten_levels


def ideal_maps(
    targets: SSDTargets | RetinaNetTargets, channels: int
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Maps of certain class logits and of the encoded boxes."""
    classes = torch.arange(channels, device=targets.labels.device)
    logits = ((targets.labels[..., None] == classes) * 2 - 1) * IDEAL_LOGIT
    return (
        unflatten_levels(logits, targets.shapes),
        unflatten_levels(targets.box, targets.shapes),
    )
