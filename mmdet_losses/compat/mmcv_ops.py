"""Stand-in for MMCV's compiled operators in an installation without them."""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from mmdet_losses.ops import greedy_nms


def provide_missing_mmcv_ops() -> bool:
    """Replace ``mmcv._ext`` by a stand-in if MMCV was installed without it.

    Reason: ``mmdet.models`` imports ``mmcv.ops``, which needs ``mmcv._ext``. The stand-in computes
    ``nms`` and ``softnms`` in PyTorch; every other operator raises an error when it is called.
    Versions: MMCV 2.x (and onedl-mmcv) without compiled operators.

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
    """Whether MMCV's compiled operators, such as deformable convolution, are installed."""
    return not isinstance(sys.modules.get('mmcv._ext'), _ExtensionStandIn)


class _ExtensionStandIn(ModuleType):
    """Replacement of ``mmcv._ext`` that implements ``nms`` and ``softnms`` only."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        # without a loader, `mmcv_full_available` of MMEngine is false; without a spec, it raises
        self.__spec__ = ModuleSpec(name, None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)

        def missing(*_: Any, **__: Any) -> None:
            raise RuntimeError(
                f'MMCV was installed without its compiled operators, so `{name}` is not '
                'available; build them with `make env OPS=1`, or compile MMCV in your environment '
                '(`pip uninstall mmcv-lite`, then `pip install mmcv==2.1.0`), or use a network '
                'without deformable convolution.'
            )

        return missing

    @staticmethod
    def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
        """MMCV's NMS: indices of the kept boxes, by descending score."""
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])  # MMCV measures x2 - x1 + offset
        labels = torch.zeros(len(boxes), dtype=torch.long, device=boxes.device)
        return greedy_nms(boxes, scores, labels, iou_threshold)

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
        """MMCV's soft-NMS: fills ``dets`` and returns indices of the kept boxes.

        ``method`` is 0 (plain NMS), 1 (linear) or 2 (Gaussian).
        """
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
            place = 0  # move the last box into each free place: ties then resolve as in MMCV
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
