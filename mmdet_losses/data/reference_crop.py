"""Training input of CornerNet-Saccade: a crop in which one object has a chosen size."""
# ruff: noqa: NPY002 (MMEngine seeds the global generator of every worker)

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import PackDetInputs
from mmdet.structures.bbox import HorizontalBoxes
from torch import Tensor

from mmdet_losses.data.clean import PER_OBJECT
from mmdet_losses.ops import crop_boxes, crop_window
from mmdet_losses.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ReferenceScaleCrop(BaseTransform):
    r"""Scale the image so that a random object has a random size, and crop around the object.

    Required keys: ``img``, ``gt_bboxes`` (horizontal) and the other annotations. Modified keys:
    those, ``img_shape``. Added key: ``gt_visibility`` (n,) float32, the fraction of each box's
    area that is inside the crop; ``PackCropInputs`` passes it to the target encoder, which selects
    the valid objects by it.

    Convention:
        The reference is a random object that is not ignored. Its longer side selects a size class:
        the first whose bound is smaller. The new side is a random integer of the class's range,
        both ends included. An image without objects is scaled by a random entry of ``scales``.
        Sides of the image are truncated. Along an axis where the scaled image is not larger than
        the crop, the image is centred. Along the other axes the crop stays inside the image and
        contains the whole reference (if that is smaller than the crop). Half sizes are
        ``size // 2``, so the last row and column of an odd crop are black. Boxes are clipped to
        the last pixel of the crop, and dropped if they are empty.

    Args:
        size: (w, h) of the crop.
        classes: (bound, low, high) of sides in pixels, largest bound first.
        scales: factors for images without objects.

    Raises:
        ValueError: the bounds of the classes do not descend to 0.

    Reference:
        Law et al., *CornerNet-Lite: Efficient Keypoint Based Object Detection*, section 3.
    """

    def __init__(
        self,
        size: tuple[int, int] = (255, 255),
        classes: Sequence[tuple[float, int, int]] = ((96, 96, 254), (32, 32, 96), (0, 16, 32)),
        scales: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    ) -> None:
        bounds = [bound for bound, *_ in classes]
        if bounds != sorted(set(bounds), reverse=True) or bounds[-1] != 0:
            raise ValueError(
                f'ReferenceScaleCrop: the bounds of classes are {bounds}; give descending bounds '
                'that end with 0.'
            )
        self.size, self.classes, self.scales = tuple(size), tuple(classes), tuple(scales)

    def transform(self, results: dict) -> dict:
        """See the class."""
        boxes = results['gt_bboxes'].tensor
        scale, reference = self._draw(boxes.numpy(), results.get('gt_ignore_flags'))
        height, width = (int(side * scale) for side in results['img'].shape[:2])
        box = np.array([0, 0, width, height]) if reference is None else reference * scale
        x, y = (
            _center(int(box[axis]), math.ceil(box[2 + axis]), side, limit)
            for axis, (side, limit) in enumerate(zip(self.size, (width, height), strict=True))
        )
        return self._crop(results, (max(height, 1), max(width, 1)), boxes * scale, (x, y))

    def _draw(
        self, boxes: np.ndarray, ignored: np.ndarray | None
    ) -> tuple[float, np.ndarray | None]:
        """The factor for the image, and the reference box (None without objects)."""
        sides = (boxes[:, 2:] - boxes[:, :2]).max(1, initial=0)
        usable = sides > 0 if ignored is None else (sides > 0) & ~ignored
        if not usable.any():
            return float(np.random.choice(self.scales)), None
        chosen = np.random.choice(np.flatnonzero(usable))
        side = float(sides[chosen])
        low, high = next(span for bound, *span in self.classes if side > bound)
        return np.random.randint(low, high + 1) / side, boxes[chosen]

    def _crop(
        self, results: dict, scaled: tuple[int, int], boxes: Tensor, center: tuple[int, int]
    ) -> dict:
        image = results['img']
        crop = np.zeros((*self.size[::-1], *image.shape[2:]), image.dtype)
        window = crop_window(center, crop.shape[:2], scaled)
        x1, y1, x2, y2 = window.filled
        left, top = window.offset
        crop[y1:y2, x1:x2] = resized_part(
            image, scaled, (y1 + top, y2 + top), (x1 + left, x2 + left)
        )
        boxes, share = crop_boxes(boxes, window)
        kept = np.flatnonzero(((boxes[:, 2:] - boxes[:, :2]).amin(1) > 0).numpy())
        results.update({key: results[key][kept] for key in PER_OBJECT if key in results})
        results.update(
            img=crop,
            img_shape=crop.shape[:2],
            gt_bboxes=HorizontalBoxes(boxes[kept]),
            gt_visibility=share[kept].numpy(),
        )
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size}, classes={self.classes})'


def resized_part(
    image: np.ndarray, size: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]
) -> np.ndarray:
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
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two source pixels next to each scaled pixel, and the weight of the second."""
    place = ((np.arange(*span) + 0.5) * (source / scaled) - 0.5).clip(0, source - 1)
    first = place.astype(np.int64)
    return first, np.minimum(first + 1, source - 1), (place - first).astype(np.float32)


def _center(start: int, stop: int, side: int, limit: int) -> int:
    """Pixel along one axis around which a crop of ``side`` shows [start, stop) of ``limit``."""
    if limit <= side:
        return limit // 2
    half = side // 2
    low, high = max(stop - half + 1, half), min(start + half, limit - half)
    return int(np.random.randint(min(low, high), max(low, high) + 1))


@TRANSFORMS.register_module()
class PackCropInputs(PackDetInputs):
    """MMDetection's ``PackDetInputs`` that also packs ``gt_visibility``, as ``visibility``."""

    mapping_table = {**PackDetInputs.mapping_table, 'gt_visibility': 'visibility'}
