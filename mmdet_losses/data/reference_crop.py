"""CornerNet-Saccade's training input: a crop in which one object has a size to learn."""
# ruff: noqa: NPY002 (MMEngine seeds the global generator of every worker)

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import PackDetInputs
from mmdet.structures.bbox import HorizontalBoxes

from mmdet_losses.data.clean import PER_OBJECT
from mmdet_losses.ops import crop_boxes, crop_window
from mmdet_losses.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ReferenceScaleCrop(BaseTransform):
    r"""Enlarge or shrink the picture until a random object has a random side, and crop around it.

    Law et al., *CornerNet-Lite: Efficient Keypoint Based Object Detection*, section 3.

    Required keys: ``img``, ``gt_bboxes`` (horizontal), and what belongs to them. Modified keys:
    those, ``img_shape``. Added key: ``gt_visibility`` (n,) float32, the share of each box's area
    that the crop shows; ``PackCropInputs`` hands it to the target encoder, which decides by it
    which objects are valid.

    Convention:
        The longest side of the reference (ignored objects excepted) decides its class, the first
        whose bound it exceeds; its new side is a whole number of the class's range, both ends
        included. A picture without objects is scaled by a factor of ``scales``. Sides of the
        picture are truncated. Along an axis on which the scaled picture is no larger than the crop
        it is centred; on the other the crop stays inside the picture and shows the whole reference
        (where that is smaller than the crop). Half sizes are ``size // 2``: an odd crop leaves its
        last row and column black. Boxes are clipped to the last pixel shown, and dropped when
        nothing is left of them.

    Args:
        size: (w, h) of the crop.
        classes: (bound, low, high) of sides in pixels, largest bound first.
        scales: factors for pictures without objects.

    Raises:
        ValueError: the classes' bounds do not descend to 0.
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
                f'ReferenceScaleCrop: the bounds of classes are {bounds}; let them descend to 0, '
                'so that every side belongs to one class.'
            )
        self.size, self.classes, self.scales = tuple(size), tuple(classes), tuple(scales)

    def transform(self, results: dict) -> dict:
        """See the class."""
        boxes = results['gt_bboxes'].tensor
        scale, reference = self._draw(boxes.numpy(), results.get('gt_ignore_flags'))
        height, width = (int(side * scale) for side in results['img'].shape[:2])
        box = np.array([0, 0, width, height]) if reference is None else reference * scale
        center = tuple(
            _center(int(box[axis]), math.ceil(box[2 + axis]), side, limit)
            for axis, (side, limit) in enumerate(zip(self.size, (width, height), strict=True))
        )
        return self._crop(results, (max(height, 1), max(width, 1)), boxes * scale, center)

    def _draw(
        self, boxes: np.ndarray, ignored: np.ndarray | None
    ) -> tuple[float, np.ndarray | None]:
        """The factor on the picture, and the reference box that it was drawn for."""
        sides = (boxes[:, 2:] - boxes[:, :2]).max(1, initial=0)
        usable = sides > 0 if ignored is None else (sides > 0) & ~ignored
        if not usable.any():
            return float(np.random.choice(self.scales)), None
        chosen = np.random.choice(np.flatnonzero(usable))
        side = float(sides[chosen])
        low, high = next(span for bound, *span in self.classes if side > bound)
        return np.random.randint(low, high + 1) / side, boxes[chosen]

    def _crop(
        self, results: dict, scaled: tuple[int, int], boxes: np.ndarray, center: tuple[int, int]
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
    """Rows and columns [start, stop) of the image resized to (h, w) ``size``, and no other pixel.

    Bilinear as ``cv2.resize``, whose fixed-point weights round whole numbers up to 1 differently.
    What a pixel costs does not depend on ``size``.
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
    """Pixels of the source on both sides of each scaled pixel, and the weight of the second."""
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
