"""Target encoder of Gaussian YOLOv3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mmdet_losses.core import IDEAL_LOGIT, Size
from mmdet_losses.detectors.yolo.contracts import GaussianYOLOOutputs, Grid, GridTargets
from mmdet_losses.detectors.yolo.darknet_encoder import Code, DarknetTargetEncoder
from mmdet_losses.detectors.yolo.grids import ideal_map
from mmdet_losses.detectors.yolo.maps import RawLevel
from mmdet_losses.detectors.yolo.yolov3_encoder import COCO_ANCHORS
from mmdet_losses.ops import check_choice
from mmdet_losses.registry import TASK_UTILS

POINTS = {'center': 0.0, 'left_top': -0.5, 'right_bottom': 0.5}
"""``yolo_point`` of a cfg -> position in the box, in sizes from its centre."""


@TASK_UTILS.register_module()
class GaussianYOLOTargetEncoder(DarknetTargetEncoder[GaussianYOLOOutputs]):
    r"""darknet's [Gaussian_yolo] layer: every box value has a mean and a standard deviation.

    The score of a box is objectness times class score times :math:`1 - \bar\sigma`, where
    :math:`\bar\sigma` is the mean of the four standard deviations.

    Args:
        num_classes, anchors: see :class:`DarknetTargetEncoder`; the default has the maps of YOLOv3.
        point: point of the box that is predicted, and whose cell stands for the object: 'center',
            'left_top' or 'right_bottom' (``yolo_point``).
        code: 'redmon' for the program of the paper (github.com/jwchoi384/Gaussian_YOLOv3), which
            extends Redmon's; 'alexeyab' for AlexeyAB's.
        kwargs: of :class:`DarknetTargetEncoder`, except ``squared``.

    Raises:
        ValueError: an unknown point, ``squared=True``, or what the base class raises.

    Reference:
        Choi et al., *Gaussian YOLOv3*, 2019, section 3.
    """

    outputs_type = GaussianYOLOOutputs

    def __init__(
        self,
        num_classes: int,
        anchors: Sequence[Sequence[tuple[float, float]]] = COCO_ANCHORS,
        point: str = 'center',
        code: Code = 'alexeyab',
        **kwargs: Any,
    ) -> None:
        check_choice('point', point, POINTS)
        super().__init__(num_classes, anchors, code=code, **kwargs)
        if self.squared:
            raise ValueError(
                'squared=True does not exist in [Gaussian_yolo]; remove it, or use YOLOV4.'
            )
        self.point = point

    def grid(self, level: int, size: Size, img_size: Size, like: Tensor) -> Grid:
        """Cells and anchors of one map."""
        return super().grid(level, size, img_size, like)._replace(point=POINTS[self.point])

    def split(self, outputs: GaussianYOLOOutputs) -> list[RawLevel]:
        """The parts of every map."""
        return with_sigmas(super().split(outputs), outputs)

    def objectness(self, raw: RawLevel) -> Tensor:
        """Objectness times one minus the mean standard deviation, (B, A, N)."""
        assert raw.sigma is not None
        return raw.obj.sigmoid() * (1 - raw.sigma.sigmoid().mean(2))

    def ideal_outputs(self, targets: GridTargets) -> GaussianYOLOOutputs:
        """Certain logits for the last object of every claimed anchor, and values of its box."""
        slots = self.slots(targets)
        maps = tuple(ideal_map(each, self.num_classes) for each in slots)
        counts = [4 * len(each.grid.anchors) for each in slots]
        sigmas = (m[:, :1].expand(-1, n, -1, -1) for m, n in zip(maps, counts, strict=True))
        return GaussianYOLOOutputs(maps, tuple(each * 0 - IDEAL_LOGIT for each in sigmas))


def with_sigmas(levels: list[RawLevel], outputs: GaussianYOLOOutputs) -> list[RawLevel]:
    """The parts of every map with their standard deviations."""
    pairs = zip(levels, outputs.sigmas, strict=True)
    return [
        raw._replace(sigma=sigma.to(raw.xy).unflatten(1, (-1, 4)).flatten(3))
        for raw, sigma in pairs
    ]
