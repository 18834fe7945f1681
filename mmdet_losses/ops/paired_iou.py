"""IoU, GIoU, DIoU and CIoU of paired boxes."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from mmdet_losses.ops.choices import check_choice
from mmdet_losses.ops.kernels.paired_iou import paired_similarity
from mmdet_losses.ops.precision import promote

IoUMode = Literal['iou', 'giou', 'diou', 'ciou']
IOU_MODES: tuple[str, ...] = get_args(IoUMode)


def box_similarity(
    pred: Tensor, target: Tensor, mode: IoUMode = 'iou', aspect_factor: bool = False
) -> Tensor:
    r"""IoU, GIoU, DIoU or CIoU of paired boxes.

    .. math::

        GIoU &= IoU - |C \setminus (A \cup B)| / |C| \\
        DIoU &= IoU - \rho^2 / c^2 \\
        CIoU &= DIoU - \alpha v, \quad v = \tfrac{4}{\pi^2} (\arctan \tfrac{w_g}{h_g} -
            \arctan \tfrac{w}{h})^2, \quad \alpha = v / (1 - IoU + v)

    with the hull C, its diagonal c and the distance rho of the centres.

    Shape:
        pred, target: (..., 4) xyxy, broadcastable. Returns (...), at least float32.

    Convention:
        There is no epsilon: 0 / 0 is 0, and the angle of a 0 x 0 box is 0. All four measures are
        invariant to scale, so the sides of each pair are first divided by the larger side of its
        hull. Huge and tiny boxes therefore do not overflow, and pixels and fractions give the same
        result. Inverted boxes count as empty. alpha has no gradient.

    Args:
        aspect_factor: multiply the derivative of the arc tangent by :math:`w^2 + h^2` (in the
            unit of the boxes), as the CIoU authors advise for sizes in [0, 1]. The value does not
            change.

    Raises:
        ValueError: an unknown mode.

    Reference:
        Rezatofighi et al. 2019 (GIoU); Zheng et al. 2020 (DIoU, CIoU).
    """
    check_choice('mode', mode, IOU_MODES)
    pred, target = promote(pred), promote(target)
    if pred.shape != target.shape:
        pred, target = torch.broadcast_tensors(pred, target)
    if pred.dtype != target.dtype:
        kind = torch.promote_types(pred.dtype, target.dtype)
        pred, target = pred.to(kind), target.to(kind)
    return paired_similarity(pred, target, mode, aspect_factor)
