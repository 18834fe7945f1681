"""Criterion of Gaussian YOLOv3."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mmdet_losses.detectors.yolo.box_terms import BoxWeights, Steer, bounded
from mmdet_losses.detectors.yolo.contracts import GaussianYOLOOutputs, GridTargets
from mmdet_losses.detectors.yolo.darknet_encoder import Code
from mmdet_losses.detectors.yolo.darknet_loss import BoxMode, DarknetLoss
from mmdet_losses.detectors.yolo.grids import Slots, slot_targets
from mmdet_losses.detectors.yolo.joined import JoinedMaps, SlotValues
from mmdet_losses.detectors.yolo.maps import RawLevel
from mmdet_losses.ops import masked_sum, zero_unless
from mmdet_losses.registry import MODELS

SIGMA_OFFSET = 0.3
TINY = 1e-9
LARGEST_DELTA = 1e4
"""Bound of a derivative; a small sigma has larger ones, which float16 cannot represent."""
MISSING = ('gradient', 'objectness_smooth', 'focal', 'convention')
"""Options of the [yolo] layer that this layer does not have here."""


def gaussian_deltas(residual: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""darknet's negative log likelihood, and its derivatives.

    .. math::

        p = \frac{e^{-r^2 / 2\sigma^2}}{\sqrt{2\pi}\,(\sigma + 0.3)}, \qquad
        L = -\log(p + 10^{-9})

    Shape:
        residual, sigma: any, target minus mean and standard deviation.

    Returns:
        L, and its negative derivatives by the mean and by sigma. A sigma below 1e-9 counts as 1e-9;
        in darknet the derivatives of a sigma of 0 are NaN. Derivatives are at most 1e4.
    """
    sigma = sigma.clamp(min=TINY)
    ratio = residual / sigma
    density = (-ratio.square() / 2).exp() / (math.sqrt(2 * math.pi) * (sigma + SIGMA_OFFSET))
    share = density / (density + TINY)
    to_sigma = ratio.square() / sigma - 1 / (sigma + SIGMA_OFFSET)
    deltas = (share * ratio / sigma, share * to_sigma)
    to_mean, to_sigma = (each.clamp(-LARGEST_DELTA, LARGEST_DELTA) for each in deltas)
    return -(density + TINY).log(), to_mean, to_sigma


@MODELS.register_module()
class GaussianYOLOLoss(DarknetLoss[GaussianYOLOOutputs]):
    r"""darknet's [Gaussian_yolo] layer: its delta is minus the gradient of these terms.

    Convention:
        Objectness and classes as in :class:`DarknetLoss`. With :math:`\mu` the decoded x, y in the
        cell and the raw w, h, and :math:`L` of :func:`gaussian_deltas`, the box costs
        :math:`(2 - w h) L / 2` per value. The deltas are derivatives by :math:`\mu` and
        :math:`\sigma`, but darknet adds them to the raw values without the factors of the
        sigmoids. ``loss_box`` moves the means, ``loss_sigma`` the standard deviations; both have
        the value of this cost, times their normalizer. The deltas of several objects in one cell
        add up, to at most 1e4, so that float16 gradients are finite.

        With an IoU mode in ``box`` the means follow the direction of the IoU instead.
        'alexeyab' divides all box deltas of an anchor by the number of its classes with a positive
        delta. 'redmon' is the program of the paper.

    Args:
        box: 'mse' for the likelihood, or an IoU mode.
        code: see above; ``iou_normalizer`` has the default of :class:`DarknetLoss`.
        uc_normalizer: factor of the deltas of the standard deviations.
        ignore_threshold: see :class:`DarknetLoss`.
        kwargs: of :class:`DarknetLoss`, except ``gradient, objectness_smooth, focal, convention``.

    Raises:
        ValueError: an option that the layer does not have, or what the base class raises.

    Reference:
        Choi et al., *Gaussian YOLOv3*, 2019, eq. 5 to 7.
    """

    def __init__(
        self,
        box: BoxMode = 'mse',
        code: Code = 'alexeyab',
        uc_normalizer: float = 1.0,
        ignore_threshold: float = 0.5,
        **kwargs: Any,
    ) -> None:
        if found := [each for each in MISSING if each in kwargs]:
            raise ValueError(f'GaussianYOLOLoss has no option {", ".join(found)}; remove it.')
        super().__init__(box, code=code, ignore_threshold=ignore_threshold, **kwargs)
        self.uc_normalizer = uc_normalizer
        self.class_code = 'redmon'  # both programs have Redmon's rule in this layer

    def _join(self, outputs: GaussianYOLOOutputs, maps: list[int], counts: list[int]) -> JoinedMaps:
        pairs = zip(maps, counts, strict=True)
        sigmas = [outputs.sigmas[i].unflatten(1, (count, 4)).flatten(3) for i, count in pairs]
        return JoinedMaps.of(super()._join(outputs, maps, counts).maps, sigmas)

    def _averaged(
        self, raw: RawLevel, wanted: Tensor, weight: Tensor, targets: GridTargets
    ) -> Tensor | None:
        return torch.ones_like(raw.obj, dtype=torch.bool) if self.code == 'alexeyab' else None

    def _boxes(self, found: SlotValues, slots: Slots, weights: BoxWeights) -> dict[str, Tensor]:
        xy, wh, logits = found.xy, found.wh, found.rest
        here = slots.mask[..., None]
        with torch.no_grad():
            mean = torch.cat((slots.place().offset(xy), wh), -1)
            residual = torch.cat(slot_targets(slots), -1) - mean
            cost, to_mean, to_sigma = gaussian_deltas(residual, logits.sigmoid())
            scale = (2 - slots.boxes[..., 2:].prod(-1, keepdim=True)) / 2
            own = scale if slots.weights is None else scale * slots.weights[..., None]
            value = masked_sum(own * cost, here)
            scale = weights.times(scale)
            to_mean = bounded(scale * to_mean, slots, weights)
            to_sigma = bounded(self.uc_normalizer * own * to_sigma, slots, weights)
            to_mean, to_sigma = (sum_in_cells(each, slots) for each in (to_mean, to_sigma))
        terms = {'loss_sigma': Steer.apply(logits, to_sigma, self.uc_normalizer * value)}
        if self.box != 'mse':
            return {**super()._boxes(found, slots, weights), **terms}
        reported = masked_sum(scale * cost, here)
        return {'loss_box': Steer.apply(torch.cat((xy, wh), -1), to_mean, reported), **terms}


def sum_in_cells(deltas: Tensor, slots: Slots) -> Tensor:
    """Sums of the deltas (B, A, K, 4) of each cell, from -1e4 to 1e4, at its last slot."""
    rows = deltas.transpose(2, 3)
    index = slots.index[:, :, None].expand_as(rows)
    total = rows.new_zeros((*rows.shape[:3], slots.grid.cells)).scatter_add(3, index, rows)
    total = total.clamp(-LARGEST_DELTA, LARGEST_DELTA).gather(3, index).transpose(2, 3)
    return zero_unless(slots.last().mask[..., None], total)
