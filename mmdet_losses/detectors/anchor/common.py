"""Parts that the encoders and criteria of SSD and RetinaNet share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from mmdet_losses.core import (
    IDEAL_LOGIT,
    DetectorLoss,
    Ignored,
    Size,
    build_regression,
    build_term,
    pad_ignored,
    regress,
    weigh_slots,
)
from mmdet_losses.core.types import OutputsT, TargetsT
from mmdet_losses.detectors.anchor.contracts import RetinaNetTargets, SSDTargets
from mmdet_losses.ops import (
    BoxCode,
    GridAnchors,
    check_choice,
    flatten_levels,
    positives_divisor,
    unflatten_levels,
    zero_unless,
)

Normalizer = Literal[
    'positives',
    'positives_and_empty_images',
    'positives_all_ranks',
    'positives_and_images',
    'images',
    'anchors',
    'nothing',
]


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


def hide_anchors(
    iou: Tensor,
    ignored: Ignored,
    anchors: Sequence[GridAnchors],
    threshold: float,
    img_size: Size,
    scale: Sequence[float] = (1.0, 1.0),
) -> tuple[Tensor, Tensor | None]:
    """Exclude the anchors in ignored regions from matching, as MMDetection does.

    Args:
        iou: (B, M, P).
        scale: factors of x and y from input pixels to the unit of the anchors.

    Returns:
        ``iou``, -1 at the hidden anchors; and the hidden anchors, (B, P) bool, None without
        regions or with a negative ``threshold``.
    """
    regions = pad_ignored(ignored, img_size)
    if regions is None or threshold < 0:
        return iou, None
    hidden = torch.cat([regions.covered(level, threshold, scale) for level in anchors], -1)
    return torch.where(hidden[:, None], -1, iou), hidden


def anchor_weights(weights: Tensor | None, index: Tensor, positive: Tensor) -> Tensor | None:
    """Weights (B, P) of anchors from those of objects (B, M): of their own object, 1 elsewhere."""
    return None if weights is None else torch.where(positive, weights.gather(1, index), 1)


def positive_deltas(code: BoxCode, boxes: Tensor, index: Tensor, positive: Tensor) -> Tensor:
    """Deltas (B, P, 4) of the boxes (B, M, 4) at ``index`` (B, P); 0 where not ``positive``."""
    if boxes.device.type == 'cpu' and not torch.compiler.is_compiling():
        image, anchor = positive.nonzero(as_tuple=True)
        deltas = boxes.new_zeros((*positive.shape, 4))
        deltas[image, anchor] = code.at(anchor).encode(boxes[image, index[image, anchor]])
        return deltas
    deltas = code.encode(boxes.gather(1, index[..., None].expand(-1, -1, 4)))
    return zero_unless(positive[..., None], deltas)


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


def _read_anchors(maps: Sequence[Tensor], mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Deltas (1, n, 4) of the anchors in ``mask`` (B, P), and their images and numbers, (1, n)."""
    rows, images, anchors, start = [], [], [], 0
    for each in maps:
        count, cells = each.shape[1] // 4, each.shape[2:].numel()
        image, anchor = mask[:, start : start + count * cells].nonzero(as_tuple=True)
        deltas = each.reshape(-1, count, 4, cells)
        rows.append(deltas[image, anchor.div(cells, rounding_mode='floor'), :, anchor % cells])
        images.append(image)
        anchors.append(start + anchor)
        start += count * cells
    return torch.cat(rows)[None], torch.cat(images)[None], torch.cat(anchors)[None]


class AnchorLoss(DetectorLoss[OutputsT, TargetsT]):
    """A criterion of a class term and a box term that are divided by the same number.

    Args:
        loss_cls: the class term.
        loss_box: a term of deltas, or of decoded boxes in input pixels.
        normalizer: divisor of both sums, see
            :func:`~mmdet_losses.ops.reduce.positives_divisor`.

    Raises:
        ValueError: an unknown normalizer, a ``loss_cls`` that takes something else, or a
            ``loss_box`` that compares neither deltas nor boxes.
    """

    class_terms: tuple[str, ...] = ('classes',)

    def __init__(
        self,
        loss_cls: dict,
        loss_box: dict,
        normalizer: Normalizer,
        init_cfg: dict | None = None,
        class_weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__(init_cfg, class_weight)
        check_choice('normalizer', normalizer, get_args(Normalizer))
        self.loss_cls = build_term(loss_cls, 'loss_cls', self.class_terms)
        self.loss_box = build_regression(loss_box, 'loss_box')
        self.normalizer = normalizer

    def box_term(
        self, maps: tuple[Tensor, ...], targets: SSDTargets | RetinaNetTargets, divisor: Tensor
    ) -> Tensor:
        """The box term over the positives; on a CPU only those are read."""
        target, decode = targets.box, targets.code.decode
        mask = weigh_slots(targets.mask, targets.weights)
        if target.device.type == 'cpu' and not torch.compiler.is_compiling():
            pred, image, anchor = _read_anchors(maps, targets.mask)
            target, mask = target[image, anchor], mask[image, anchor]
            decode = targets.code.at(anchor).decode
        else:
            pred = flatten_levels(maps, 4)
        return regress(self.loss_box, pred, target, mask, divisor, decode)

    def divisor(self, counts: Tensor, targets: SSDTargets | RetinaNetTargets) -> Tensor:
        """Divisor of both sums, from the number of positives per image."""
        return positives_divisor(counts, self.normalizer, targets.labels.shape[1])
