"""Training input of CornerNet-Saccade: a crop in which one object has a chosen size."""
# ruff: noqa: NPY002 (MMEngine seeds the global generator of every worker)

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import PackDetInputs
from numpy.typing import NDArray

from mmdet_losses.data.draws import coin, whole_number
from mmdet_losses.data.objects import box_array, learned, put_objects
from mmdet_losses.ops import crop_boxes, crop_window
from mmdet_losses.registry import TRANSFORMS

REACH = 14  # pixels that a centred crop may lie off the centre of the reference


@TRANSFORMS.register_module()
class ReferenceScaleCrop(BaseTransform):
    r"""Resize the image until a random object has a random side, and crop around that object.

    Law et al., *CornerNet-Lite: Efficient Keypoint Based Object Detection*, section 3. Sampling
    rule of the official code:

    1. Boxes are clipped to the last pixel of the image. One that has area is the reference, all
       equally likely. Its longer side decides its class, the first whose bound it exceeds; its new
       side is a whole number of that class's range. An image without objects is scaled by a factor
       of ``scales``.
    2. With probability ``centered_prob`` the crop is centred, for both axes. Along an axis where
       the scaled image is not larger than the crop, the crop shows all of it. Otherwise a crop that
       is not centred stays inside the image and shows the whole reference; the position is uniform.
       A centred crop has its centre at most 14 pixels off the centre of the reference. It may reach
       over the border of the image, where it is black.
    3. Boxes are clipped to the last pixel shown, and dropped without area.
    4. With probability ``flip_prob`` image and boxes are mirrored, x to ``width - 1 - x``.

    Required keys: ``img``, ``gt_bboxes`` (horizontal), and what belongs to them. Modified keys:
    those, ``img_shape``. Added keys: ``flip``, ``flip_direction`` and ``gt_visibility`` (n,)
    float32, the clipped area of each box as a share of the area before any clipping.
    ``PackCropInputs`` hands it to the target encoder, which decides by it which objects are valid.

    Convention:
        Sides of the scaled image are truncated. Half sizes of the crop are ``size // 2``: an odd
        crop leaves its last row and column black. Ignored objects are no reference.

    Args:
        size: (w, h) of the crop.
        classes: (bound, low, high) of sides in pixels, largest bound first.
        scales: factors for images without objects.
        centered_prob, flip_prob: see above.

    Raises:
        ValueError: the bounds of the classes do not descend to 0.
    """

    def __init__(
        self,
        size: tuple[int, int] = (255, 255),
        classes: Sequence[tuple[float, int, int]] = ((96, 96, 254), (32, 32, 96), (0, 16, 32)),
        scales: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1),
        centered_prob: float = 0.5,
        flip_prob: float = 0.5,
    ) -> None:
        bounds = [bound for bound, *_ in classes]
        if bounds != sorted(set(bounds), reverse=True) or bounds[-1] != 0:
            raise ValueError(
                f'ReferenceScaleCrop: the bounds of classes are {bounds}; give descending bounds '
                'that end with 0.'
            )
        self.size, self.classes, self.scales = tuple(size), tuple(classes), tuple(scales)
        self.centered_prob, self.flip_prob = centered_prob, flip_prob

    def transform(self, results: dict) -> dict:
        """See the class."""
        height, width = results['img'].shape[:2]
        whole = box_array(results)
        boxes = whole.clip(0, [width - 1, height - 1] * 2)
        scale, reference = self._draw(boxes, learned(results))
        scaled = max(int(width * scale), 1), max(int(height * scale), 1)
        centered = coin(self.centered_prob)
        span = np.array([0, 0, *scaled]) if reference is None else reference * scale
        center = [
            draw_center(span[axis], span[axis + 2], self.size[axis], scaled[axis], centered)
            for axis in range(2)
        ]
        self._crop(results, scaled, boxes * scale, whole * scale, (center[0], center[1]))
        if coin(self.flip_prob):
            self._mirror(results)
        return results

    def _draw(
        self, boxes: NDArray[np.float64], usable: NDArray[np.bool_]
    ) -> tuple[float, NDArray[np.float64] | None]:
        """The factor for the image, and the reference box (None without objects)."""
        sides = boxes[:, 2:] - boxes[:, :2]
        usable = usable & (sides > 0).all(1)
        if not usable.any():
            return float(np.random.choice(self.scales)), None
        chosen = np.random.choice(np.flatnonzero(usable))
        side = float(sides[chosen].max())
        low, high = next(span for bound, *span in self.classes if side > bound)
        return whole_number(low, high) / side, boxes[chosen]

    def _crop(
        self,
        results: dict,
        scaled: tuple[int, int],
        boxes: NDArray[np.float64],
        whole: NDArray[np.float64],
        center: tuple[int, int],
    ) -> None:
        """Cut image and boxes. ``whole`` are the boxes before they were clipped to the image."""
        image, (width, height) = results['img'], self.size
        crop = np.zeros((height, width, *image.shape[2:]), image.dtype)
        window = crop_window(center, (height, width), scaled[::-1])
        x1, y1, x2, y2 = window.filled
        left, top = window.offset
        crop[y1:y2, x1:x2] = resized_part(
            image, scaled[::-1], (y1 + top, y2 + top), (x1 + left, x2 + left)
        )
        clipped = crop_boxes(torch.from_numpy(boxes), window)[0].numpy()
        areas = [(each[:, 2:] - each[:, :2]).prod(1) for each in (clipped, whole)]
        kept = (clipped[:, 2:] - clipped[:, :2]).min(1) > 0
        put_objects(results, clipped, kept)
        results.update(
            img=crop,
            img_shape=crop.shape[:2],
            gt_visibility=(areas[0][kept] / areas[1][kept]).astype(np.float32),
            flip=False,
            flip_direction=None,
        )

    def _mirror(self, results: dict) -> None:
        boxes = box_array(results)
        boxes[:, [0, 2]] = self.size[0] - 1 - boxes[:, [2, 0]]
        put_objects(results, boxes, np.arange(len(boxes)))
        results.update(img=cv2.flip(results['img'], 1), flip=True, flip_direction='horizontal')

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(size={self.size}, classes={self.classes}, '
            f'centered_prob={self.centered_prob}, flip_prob={self.flip_prob})'
        )


def draw_center(low: float, high: float, side: int, limit: int, centered: bool) -> int:
    """Centre of a crop along one axis; rule 2 of :class:`ReferenceScaleCrop`.

    Args:
        low, high: the reference.
        side: pixels of the crop.
        limit: pixels of the scaled image.
        centered: near the centre of the reference, perhaps over the border.
    """
    if limit <= side:
        return limit // 2
    if not centered:
        first, last = int(max(high - side, 0)), int(min(limit - side, low))
        return whole_number(min(first, last), last) + side // 2
    middle = (low + high) // 2
    first = int(max(middle - whole_number(0, REACH), 0))
    last = int(min(middle + whole_number(0, REACH), limit - 1))
    return whole_number(first, max(first, last))


def resized_part(
    image: NDArray, size: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]
) -> NDArray:
    """Rows and columns [start, stop) of the image resized to (h, w) ``size``.

    Bilinear as ``cv2.resize``; integers differ by up to 1, because OpenCV uses fixed-point weights.
    Only the requested pixels are computed, so the cost does not depend on ``size``.
    """
    above, below, down = _neighbours(rows, size[0], image.shape[0])
    before, behind, right = _neighbours(columns, size[1], image.shape[1])
    channels = (1,) * (image.ndim - 2)
    down, right = down.reshape(-1, 1, *channels), right.reshape(1, -1, *channels)
    high, low = (
        image[np.ix_(line, before)] * (1 - right) + image[np.ix_(line, behind)] * right
        for line in (above, below)
    )
    part = high * (1 - down) + low * down
    return np.rint(part) if np.issubdtype(image.dtype, np.integer) else part


def _neighbours(
    span: tuple[int, int], scaled: int, source: int
) -> tuple[NDArray, NDArray, NDArray]:
    """The two source pixels next to each scaled pixel, and the weight of the second."""
    place = ((np.arange(*span) + 0.5) * (source / scaled) - 0.5).clip(0, source - 1)
    first = place.astype(np.int64)
    return first, np.minimum(first + 1, source - 1), (place - first).astype(np.float32)


@TRANSFORMS.register_module()
class PackCropInputs(PackDetInputs):
    """MMDetection's ``PackDetInputs`` that also packs ``gt_visibility``, as ``visibility``."""

    mapping_table = {**PackDetInputs.mapping_table, 'gt_visibility': 'visibility'}
