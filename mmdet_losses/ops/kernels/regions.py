"""Cells of a map inside ignored regions."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdet_losses.ops.boxes import clip_boxes, scale_boxes
from mmdet_losses.ops.kernels.launch import gpu_kernels, use_triton


def region_cells(
    boxes: Tensor,
    labels: Tensor,
    mask: Tensor,
    feat_size: tuple[int, int],
    scale: tuple[float, float],
    num_classes: int | None,
) -> Tensor:
    """Cells of maps inside regions, border cells included. One launch on a GPU.

    Shape:
        boxes: (B, R, 4) xyxy float32; ``scale`` has the cells per unit along x and y.
        labels: (B, R) int64; c or -2 - c is a region of class c, -1 of all classes.
        mask: (B, R) bool, the regions that count.
        Returns (B, C, H, W) bool; without ``num_classes`` (B, 1, H, W), of all labels.
    """
    if use_triton(boxes):
        kernels = gpu_kernels('regions')
        return kernels.region_cells(boxes, labels, mask, feat_size, scale, num_classes)
    height, width = feat_size
    boxes = clip_boxes(scale_boxes(boxes, *scale), width - 1, height - 1).floor()
    low, high = boxes[..., :2, None], boxes[..., 2:, None]
    column, row = (torch.arange(side, device=boxes.device) for side in (width, height))
    columns = (column >= low[..., 0, :]) & (column <= high[..., 0, :])
    rows = (row >= low[..., 1, :]) & (row <= high[..., 1, :]) & mask[..., None]
    classes = torch.ones_like(labels, dtype=torch.bool)[..., None]
    if num_classes is not None:
        own = torch.where(labels < -1, -2 - labels, labels)[..., None]
        every = torch.arange(num_classes, device=boxes.device)
        classes = (own == every) | (labels == -1)[..., None]
    parts = (each.float() for each in (classes, rows, columns))
    return torch.einsum('bmc,bmh,bmw->bchw', *parts) > 0
