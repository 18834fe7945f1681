"""Replace regressed keypoints by nearby peaks of the keypoint heatmap."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdet_losses.ops import box_size


def snap_keypoints(
    keypoints: Tensor, boxes: Tensor, candidates: Tensor, valid: Tensor, reach: float
) -> Tensor:
    """Replace each keypoint by the nearest candidate, if the candidate is close enough.

    Shape:
        keypoints: (B, P, K, 2) of P persons; boxes: (B, P, 4).
        candidates: (B, K, N, 2); valid: (B, K, N) bool.
        Returns (B, P, K, 2).

    Convention:
        The nearest valid candidate must be inside the person's box (border included) and at most
        ``reach`` times the longer side away. Otherwise the keypoint stays; the second nearest
        candidate is not tried. Several persons may use the same candidate.
    """
    spread = keypoints[:, :, :, None] - candidates[:, None]  # (B, P, K, N, 2)
    distance = spread.square().sum(-1).sqrt()
    distance = distance.masked_fill(~valid[:, None], torch.inf)
    distance, nearest = distance.min(-1)
    best = candidates[:, None].expand(-1, boxes.shape[1], -1, -1, -1)
    best = best.gather(3, nearest[..., None, None].expand(-1, -1, -1, 1, 2)).squeeze(3)
    low, high = boxes[:, :, None, :2], boxes[:, :, None, 2:]
    inside = ((best >= low) & (best <= high)).all(-1)
    near = distance <= reach * box_size(boxes).amax(-1)[..., None]
    return torch.where((inside & near)[..., None], best, keypoints)
