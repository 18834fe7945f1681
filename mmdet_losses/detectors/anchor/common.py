"""Parts that the encoders and criteria of SSD and RetinaNet share."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from mmdet_losses.core import IDEAL_LOGIT, DetectorLoss, build_term
from mmdet_losses.core.types import OutputsT, TargetsT
from mmdet_losses.detectors.anchor.contracts import RetinaNetTargets, SSDTargets
from mmdet_losses.ops import check_choice, unflatten_levels

Normalizer = Literal['positives', 'positives_and_empty_images', 'positives_all_ranks']


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


def anchor_depth(maps: tuple[Tensor, ...], shapes: tuple[tuple[int, int, int], ...]) -> int:
    """Channels per anchor.

    Raises:
        ValueError: the targets were encoded for maps of other sizes or for other anchors.
    """
    found = [tuple(each.shape[-2:]) for each in maps]
    wanted = [(height, width) for _, height, width in shapes]
    channels, anchors = maps[0].shape[1], shapes[0][0]
    if found != wanted or channels % anchors:
        raise ValueError(
            f'The network returns maps of sizes {found} with {channels} channels but the targets '
            f'have sizes {wanted} with {anchors} anchors per cell; give head and encoder the same '
            'anchors.'
        )
    return channels // anchors


class AnchorLoss(DetectorLoss[OutputsT, TargetsT]):
    """A criterion of a class term and a box term that are divided by the same number.

    Args:
        loss_cls, loss_box: the terms.
        normalizer: divisor of both sums, see
            :func:`~mmdet_losses.ops.reduce.positives_divisor`.

    Raises:
        ValueError: an unknown normalizer.
    """

    def __init__(
        self, loss_cls: dict, loss_box: dict, normalizer: Normalizer, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_choice('normalizer', normalizer, get_args(Normalizer))
        self.loss_cls, self.loss_box = build_term(loss_cls), build_term(loss_box)
        self.normalizer = normalizer
