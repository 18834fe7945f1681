"""Fast operations on whole images: memory layouts, and linear maps of the channels."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from numpy.typing import NDArray

from mmdet_losses.registry import TRANSFORMS


def in_memory_order(image: NDArray) -> NDArray:
    """The image (h, w, C) in contiguous memory.

    ``RandomFlip`` returns a mirrored view. OpenCV copies it ten times as fast as NumPy.
    """
    if image.strides[1] < 0 and image.size:
        return cv2.flip(image[:, ::-1], 1)
    return np.ascontiguousarray(image)


def by_planes(image: NDArray) -> NDArray:
    """The image (h, w, C), stored channel by channel, so that ``PackDetInputs`` copies nothing."""
    height, width, channels = image.shape
    planes = np.empty((channels, height, width), image.dtype)
    if image.size:
        cv2.split(image, list(planes))
    return planes.transpose(1, 2, 0)


def per_channel(
    image: NDArray[np.float32], factors: Sequence[float], shifts: Sequence[float]
) -> NDArray[np.float32]:
    """Each channel times its factor plus its shift."""
    return cv2.transform(image, np.column_stack((np.diag(factors), shifts)))


def framed(
    image: NDArray, size: tuple[int, int], offset: tuple[int, int], color: Sequence[float] | NDArray
) -> NDArray:
    """A canvas of one colour, (w, h) ``size``, with the image at (x, y) ``offset``."""
    high, wide = image.shape[:2]
    (x, y), (w, h) = offset, size
    if (wide, high) == (w, h):
        return image
    if not image.size:
        return np.full((h, w, len(color)), color, image.dtype)
    return cv2.copyMakeBorder(
        image,
        y,
        h - y - high,
        x,
        w - x - wide,
        cv2.BORDER_CONSTANT,
        value=[float(each) for each in color],
    )


@TRANSFORMS.register_module()
class PlanarImage(BaseTransform):
    """The same image, stored channel by channel.

    ``PackDetInputs`` copies an image into this order, slowly where it is mirrored. Use this
    transform directly before it; the transforms of this package that change colours last do the
    same.

    Required and modified key: ``img``.
    """

    def transform(self, results: dict) -> dict:
        """See the class."""
        results['img'] = by_planes(in_memory_order(results['img']))
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
