"""Stand-in for MMCV's compiled operators, where MMCV was installed without them."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import torch
from torch import Tensor


def provide_missing_mmcv_ops() -> bool:
    """Let MMDetection import where MMCV was installed without its compiled operators.

    ``mmdet.models`` imports ``mmcv.ops`` unconditionally, and that needs ``mmcv._ext``. Where the
    extension is missing, a stand-in takes its place: ``nms`` and ``softnms`` are computed in plain
    torch, every other operator raises one sentence when it is called.

    Returns:
        Whether the stand-in was installed.
    """
    try:
        importlib.import_module('mmcv._ext')
    except ImportError:
        sys.modules['mmcv._ext'] = _ExtensionStandIn('mmcv._ext')
        return True
    return False


def has_mmcv_ops() -> bool:
    """Whether MMCV's compiled operators (deformable convolution among them) are here."""
    return not isinstance(sys.modules.get('mmcv._ext'), _ExtensionStandIn)


class _ExtensionStandIn(ModuleType):
    """Looks like ``mmcv._ext``; only non-maximum suppression computes anything."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)

        def missing(*_: Any, **__: Any) -> None:
            raise RuntimeError(
                f'MMCV was installed without its compiled operators, so `{name}` is not '
                'available; build them with `make env`, or choose a network without '
                'deformable convolution.'
            )

        return missing

    @staticmethod
    def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
        """Indices of the boxes that survive greedy suppression, by descending score."""
        order = scores.argsort(descending=True)
        iou = _pairwise_iou(boxes[order], offset)
        alive = torch.ones_like(order, dtype=torch.bool)
        for i in range(len(order)):
            if alive[i]:
                alive[i + 1 :] &= iou[i, i + 1 :] <= iou_threshold
        return order[alive]

    @staticmethod
    def softnms(
        boxes: Tensor,
        scores: Tensor,
        dets: Tensor,
        iou_threshold: float,
        sigma: float,
        min_score: float,
        method: int,
        offset: int,
    ) -> Tensor:
        """MMCV's soft-NMS (method 0 hard, 1 linear, 2 Gaussian): fills ``dets``, gives indices."""
        left, iou, decayed = list(range(len(scores))), _pairwise_iou(boxes, offset), scores.clone()
        kept: list[int] = []
        while left:
            place = max(range(len(left)), key=lambda i: float(decayed[left[i]]))
            best, left[place] = left[place], left[0]
            del left[0]
            dets[len(kept), :4], dets[len(kept), 4] = boxes[best], decayed[best]
            kept.append(best)
            if method == 0:
                factor = (iou[best] < iou_threshold).to(scores)
            elif method == 1:
                factor = torch.where(iou[best] >= iou_threshold, 1 - iou[best], 1.0)
            else:
                factor = torch.exp(-iou[best].square() / sigma)
            decayed = decayed * factor
            place = 0  # the last box takes a dropped one's place, which settles ties as MMCV does
            while place < len(left):
                if decayed[left[place]] < min_score:
                    left[place] = left[-1]
                    left.pop()
                else:
                    place += 1
        return torch.tensor(kept, dtype=torch.long)


def _pairwise_iou(boxes: Tensor, offset: int) -> Tensor:
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    overlap = (high - low + offset).clamp(min=0).prod(-1)
    area = (boxes[:, 2:] - boxes[:, :2] + offset).prod(-1)
    return overlap / (area[:, None] + area[None] - overlap)
