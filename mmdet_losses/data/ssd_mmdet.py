"""Canvas and crop of MMDetection's SSD, without painting the canvas."""
# ruff: noqa: NPY002 (MMEngine seeds the global generator of every worker)

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform
from numpy.typing import NDArray

from mmdet_losses.data.objects import box_array, put_objects
from mmdet_losses.data.ssd import Canvas, cut
from mmdet_losses.registry import TRANSFORMS

TRIES = 50


@TRANSFORMS.register_module()
class ExpandCrop(BaseTransform):
    """MMDetection's ``Expand`` followed by ``MinIoURandomCrop``, faster.

    The same random numbers give the same image and boxes. Only the part of the canvas that the
    crop shows is painted, and overlaps are computed without tensors.

    Sampling rule of MMDetection: with probability 1/2 the image is placed on a canvas r times as
    large, r ~ U(``ratio_range``). Then one of the modes, equally likely: the whole canvas, one of
    the minimum overlaps, or no minimum. Up to 50 crops per mode, then a new mode; sides
    U(``min_crop_size``, 1) of the canvas, 1/2 <= h/w <= 2. Every box must have the minimum IoU
    with the crop, and one box its centre inside. Boxes with their centre inside stay, clipped.

    Required keys: ``img``, ``gt_bboxes`` and what belongs to them. Modified keys: those,
    ``img_shape``.

    Args:
        mean: colour of the canvas in R, G, B.
        ratio_range: see above.
        min_ious: see above.
        min_crop_size: see above.
    """

    def __init__(
        self,
        mean: Sequence[float] = (0, 0, 0),
        ratio_range: tuple[float, float] = (1, 4),
        min_ious: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
        min_crop_size: float = 0.3,
    ) -> None:
        self.mean, self.ratio_range = tuple(mean), (ratio_range[0], ratio_range[1])
        self.min_ious, self.min_crop_size = tuple(min_ious), min_crop_size

    def transform(self, results: dict) -> dict:
        """See the class."""
        image = results['img']
        canvas = self._canvas(image.shape[1], image.shape[0])
        boxes = (box_array(results) + np.tile(canvas.offset, 2)).astype(np.float32)
        crop = self._crop(canvas.size, boxes)
        kept = np.ones(len(boxes), bool)
        if crop is not None:
            kept = _centered(boxes, crop)
            corner = np.tile(crop[:2], 2)
            boxes = (boxes - corner).clip(0, np.tile(crop[2:], 2) - corner)
        else:
            crop = 0, 0, *canvas.size
        put_objects(results, boxes, kept)
        sides = crop[2] - crop[0], crop[3] - crop[1]
        place = canvas.offset[0] - crop[0], canvas.offset[1] - crop[1]
        # MMDetection's canvas has the type of the image, so the mean is truncated
        color = np.array(self.mean[::-1]).astype(image.dtype).tolist()
        results['img'] = cut(image, place, sides, lambda part: part, color)
        results['img_shape'] = results['img'].shape[:2]
        return results

    def _canvas(self, width: int, height: int) -> Canvas:
        if np.random.uniform(0, 1) > 0.5:
            return Canvas((width, height), (0, 0))
        ratio = np.random.uniform(*self.ratio_range)
        left = int(np.random.uniform(0, width * ratio - width))
        top = int(np.random.uniform(0, height * ratio - height))
        return Canvas((int(width * ratio), int(height * ratio)), (left, top))

    def _crop(
        self, size: tuple[int, int], boxes: NDArray[np.float32]
    ) -> tuple[int, int, int, int] | None:
        """A crop (x1, y1, x2, y2) of the canvas; None: the whole canvas."""
        width, height = size
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        while (least := np.random.choice((1, *self.min_ious, 0))) != 1:
            for _ in range(TRIES):
                w = np.random.uniform(self.min_crop_size * width, width)
                h = np.random.uniform(self.min_crop_size * height, height)
                if not 0.5 <= h / w <= 2:
                    continue
                # MMDetection passes one limit; the other is NumPy's default, 1
                left, top = np.random.uniform(width - w), np.random.uniform(height - h)
                crop = int(left), int(top), int(left + w), int(top + h)
                if crop[2] == crop[0] or crop[3] == crop[1]:
                    continue
                if not len(boxes):
                    return crop
                if _centered(boxes, crop).any() and _least_iou(boxes, areas, crop) >= least:
                    return crop
        return None

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(mean={self.mean}, ratio_range={self.ratio_range}, '
            f'min_ious={self.min_ious}, min_crop_size={self.min_crop_size})'
        )


def _centered(boxes: NDArray[np.float32], crop: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """(n,) whether the centre of a box is inside of the crop."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.all((centers > crop[:2]) & (centers < crop[2:]), axis=1)


def _least_iou(
    boxes: NDArray[np.float32], areas: NDArray[np.float32], crop: tuple[int, int, int, int]
) -> float:
    """The smallest IoU of a box with the crop."""
    shared = np.minimum(boxes[:, 2:], crop[2:]) - np.maximum(boxes[:, :2], crop[:2])
    shared = shared.clip(min=0).prod(1)
    union = areas + (crop[2] - crop[0]) * (crop[3] - crop[1]) - shared
    return float((shared / np.maximum(union, 1e-6)).min())
