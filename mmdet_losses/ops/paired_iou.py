"""IoU of paired boxes, and its kinds."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from mmdet_losses.ops.choices import check_choice
from mmdet_losses.ops.kernels.paired_iou import WITH_KERNEL, paired_similarity
from mmdet_losses.ops.precision import promote

IoUMode = Literal['iou', 'giou', 'diou', 'ciou', 'eiou', 'eiou_mmdet', 'siou', 'siou_mmdet']
IOU_MODES: tuple[str, ...] = get_args(IoUMode)

LARGEST = 2.0**124
"""Largest coordinate: the sum of four is finite in float32."""


def box_similarity(
    pred: Tensor,
    target: Tensor,
    mode: IoUMode = 'iou',
    aspect_factor: bool = False,
    exponent: float = 1.0,
) -> Tensor:
    r"""IoU of paired boxes, or one of its kinds.

    .. math::

        GIoU &= IoU - |C \setminus (A \cup B)| / |C| \\
        DIoU &= IoU - \rho^2 / c^2 \\
        CIoU &= DIoU - \alpha v, \quad v = \tfrac{4}{\pi^2} (\arctan \tfrac{w_g}{h_g} -
            \arctan \tfrac{w}{h})^2, \quad \alpha = v / (1 - IoU + v) \\
        EIoU &= DIoU - (w - w_g)^2 / w_C^2 - (h - h_g)^2 / h_C^2 \\
        SIoU &= IoU - (\Delta + \Omega) / 2, \quad
            \Delta = \sum_{i \in \{x, y\}} (1 - e^{-(2 - \Lambda) \rho_i}), \quad
            \Omega = \sum_{s \in \{w, h\}} (1 - e^{-\omega_s})^4

    with the hull C of sides :math:`w_C, h_C`, its diagonal c and the distance :math:`\rho` of the
    centres. For SIoU :math:`\rho_x = (d_x / w_C)^2`, :math:`\rho_y = (d_y / h_C)^2`,
    :math:`\Lambda = 2 |d_x d_y| / (d_x^2 + d_y^2)` and
    :math:`\omega_w = |w - w_g| / \max(w, w_g)`.

    Shape:
        pred, target: (..., 4) xyxy, broadcastable. Returns (...), at least float32.

    Convention:
        There is no epsilon: 0 / 0 is 0, and the angle of a 0 x 0 box is 0. The sides of each pair
        are first divided by the larger side of its hull, so huge and tiny boxes do not overflow,
        and pixels and fractions give the same result. An inverted side counts as an empty one in
        its middle. alpha has no gradient. Coordinates beyond 2e37 are clamped, and the gradient
        of float16 boxes saturates at 65504.

        MMDetection defines two names differently. 'eiou_mmdet' is 1 - its ``EIoULoss``: the
        *extended* IoU, negative for boxes that do not meet (inverted boxes are not empty there),
        in a cost :math:`1 - s` that is quadratic below 0.1. 'siou_mmdet' is its ``SIoULoss`` with
        ``neg_gamma=False``: the exponent of the distance has the other sign, so that a distance
        lowers the cost, and the result is clamped to [-1, 1].

    Args:
        aspect_factor: multiply the derivative of the arc tangent by :math:`w^2 + h^2` (in the
            unit of the boxes), as the CIoU authors advise for sizes in [0, 1]; same value.
        exponent: alpha of alpha-IoU: the IoU and each penalty are raised to it. At least 1; only
            for 'iou', 'giou', 'diou' and 'ciou'.

    Raises:
        ValueError: an unknown mode, or an exponent that does not fit.

    Reference:
        Rezatofighi et al. 2019 (GIoU); Zheng et al. 2020 (DIoU, CIoU); Zhang et al. 2021, *Focal
        and Efficient IOU Loss* (EIoU); Peng and Yu 2021 (extended IoU); Gevorgyan 2022 (SIoU); He
        et al. 2021 (alpha-IoU).
    """
    check_choice('mode', mode, IOU_MODES)
    check_exponent(mode, exponent)
    pred, target = _alike(_promote_boxes(pred), _promote_boxes(target))
    if mode not in ('iou', 'eiou_mmdet'):  # these need no hull, or define inversion differently
        pred, target = _without_inversion(pred), _without_inversion(target)
    return paired_similarity(pred, target, mode, aspect_factor, exponent)


def _promote_boxes(boxes: Tensor) -> Tensor:
    """Boxes in at least float32, with coordinates whose differences cannot overflow."""
    if boxes.dtype == torch.float16:
        boxes = _SaturatingPromotion.apply(boxes)
    return promote(boxes).clamp(-LARGEST, LARGEST)


class _SaturatingPromotion(torch.autograd.Function):
    """float16 as float32; the gradient is clamped to the range of float16 instead of infinite."""

    @staticmethod
    def forward(ctx: Any, boxes: Tensor) -> Tensor:
        return boxes.float()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        largest = torch.finfo(torch.float16).max
        return grad.clamp(-largest, largest).to(torch.float16)


def _without_inversion(boxes: Tensor) -> Tensor:
    """Boxes (..., 4) with inverted sides replaced by their middle.

    With raw corners, the centre of an inverted box could be far outside the hull of the pair.
    """
    low, high = boxes[..., :2], boxes[..., 2:]
    middle, inverted = low / 2 + high / 2, high < low
    return torch.cat((torch.where(inverted, middle, low), torch.where(inverted, middle, high)), -1)


def _alike(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both in one shape and one type."""
    if pred.shape != target.shape:
        pred, target = torch.broadcast_tensors(pred, target)
    if pred.dtype != target.dtype:
        kind = torch.promote_types(pred.dtype, target.dtype)
        pred, target = pred.to(kind), target.to(kind)
    return pred, target


def check_exponent(mode: str, exponent: float) -> None:
    """Raise ``ValueError`` unless the exponent of alpha-IoU is defined for the mode."""
    if exponent < 1 or (exponent != 1 and mode not in WITH_KERNEL):
        raise ValueError(
            f'exponent={exponent} does not fit mode={mode!r}; give a number from 1 with one of '
            f'{", ".join(WITH_KERNEL)}, or 1.'
        )
