"""Boxes relative to anchors: shift of the centre in anchor sizes, logarithm of the size ratio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmdet_losses.ops.boxes import box_center, box_size
from mmdet_losses.ops.constant import constant


def encode_deltas(boxes: Tensor, anchors: Tensor, scale: Sequence[float] = (1.0, 1.0)) -> Tensor:
    """Boxes (..., 4) xyxy relative to anchors (..., 4) cxcywh: (dx, dy, dw, dh) over ``scale``.

    ``scale`` divides shifts and logarithms: two numbers (the variances 0.1 and 0.2 of SSD), or one
    per delta. Boxes have an area.
    """
    center, size = anchors[..., :2], anchors[..., 2:]
    for_shift, for_log = _factors(scale, anchors)
    shift = (box_center(boxes) - center) / (for_shift * size)
    return torch.cat((shift, torch.log(box_size(boxes) / size) / for_log), -1)


def _factors(scale: Sequence[float], like: Tensor) -> tuple[Tensor | float, Tensor | float]:
    """Factors of shifts and of logarithms, from two or four numbers."""
    if len(scale) == 2:
        return scale[0], scale[1]
    return constant(scale[:2], like), constant(scale[2:], like)


def decode_deltas(
    deltas: Tensor,
    anchors: Tensor,
    scale: Sequence[float] = (1.0, 1.0),
    max_log: float | None = None,
) -> Tensor:
    """Inverse of :func:`encode_deltas`; ``max_log`` limits the logarithms of the ratios."""
    for_shift, for_log = _factors(scale, anchors)
    center = anchors[..., :2] + deltas[..., :2] * for_shift * anchors[..., 2:]
    logs = deltas[..., 2:] * for_log
    if max_log is not None:
        logs = logs.clamp(-max_log, max_log)
    size = anchors[..., 2:] * torch.exp(logs)
    low = center - size / 2
    return torch.cat((low, low + size), -1)


class BoxCode(NamedTuple):
    """Anchors and how deltas relative to them are scaled."""

    anchors: Tensor
    """(P, 4) cxcywh."""
    scale: Sequence[float] = (1.0, 1.0)
    """Divisors of the shifts and of the logarithms, or of each delta."""
    max_log: float | None = None
    """Limit of the logarithms in :meth:`decode`."""

    def at(self, index: Tensor) -> BoxCode:
        """The code of the anchors at some positions (n,)."""
        return self._replace(anchors=self.anchors[index])

    def encode(self, boxes: Tensor) -> Tensor:
        """Boxes (..., P, 4) xyxy to deltas."""
        return encode_deltas(boxes, self.anchors, self.scale)

    def decode(self, deltas: Tensor) -> Tensor:
        """Deltas (..., P, 4) to boxes xyxy."""
        return decode_deltas(deltas, self.anchors, self.scale, self.max_log)
