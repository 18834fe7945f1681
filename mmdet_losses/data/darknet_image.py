"""Images as darknet resizes and colours them; its test input.

darknet samples bilinearly by rules of its own. OpenCV has none of them, so they are written here.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from numpy.typing import NDArray

from mmdet_losses.data.pixels import in_four_channels, per_channel
from mmdet_losses.registry import TRANSFORMS

Border = Literal['edge', 'zero']


def sample(image: NDArray, x: NDArray, y: NDArray, border: Border = 'edge') -> NDArray[np.float32]:
    """Bilinear values at the grid of columns x (w,) and rows y (h,), in pixels of the image.

    Args:
        image: (H, W, C).
        x, y: positions; 0 is the middle of the first pixel.
        border: value of pixels outside the image: the nearest pixel, or zero.
    """
    if _remap_is_exact():
        mode = cv2.BORDER_REPLICATE if border == 'edge' else cv2.BORDER_CONSTANT
        grid = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
        return in_four_channels(
            image.astype(np.float32, copy=False),
            lambda each: cv2.remap(each, *grid, cv2.INTER_LINEAR, borderMode=mode),
        )
    columns = _blend_rows(_transposed(image), x, border)  # rows are copied faster than columns
    return _blend_rows(_transposed(columns), y, border)


@cache
def _remap_is_exact() -> bool:
    """Whether OpenCV interpolates at the given positions; before 5.0 it rounds them to 1/32."""
    x, y = np.full((1, 1), 1 / 64, np.float32), np.zeros((1, 1), np.float32)
    found = cv2.remap(np.array([[0, 64]], np.float32), x, y, cv2.INTER_LINEAR)
    return float(found[0, 0]) == 1.0


def _transposed(image: NDArray) -> NDArray:
    """Width and height exchanged."""
    return cv2.transpose(image) if image.size else image.swapaxes(0, 1)


def _blend_rows(image: NDArray, place: NDArray, border: Border) -> NDArray[np.float32]:
    """Linear interpolation between rows."""
    last = len(image) - 1
    first = np.floor(place).astype(np.int64)
    weight = (place - first).astype(np.float32)
    values = []
    for index, part in ((first, 1 - weight), (first + 1, weight)):
        if border == 'zero':
            part = np.where((index >= 0) & (index <= last), part, np.float32(0))
        values.append(image.take(index.clip(0, last), 0) * part[:, None, None])
    values[0] += values[1]
    return values[0]


def resize_positions(old: int, new: int) -> NDArray[np.float64]:
    """Where darknet's ``resize_image`` reads along an axis of ``old`` pixels.

    Positions are rounded to float32, as in darknet. Their fractions then have few bits, and a
    region of one colour keeps exactly this colour.
    """
    step = np.float32((old - 1) / max(new - 1, 1))
    return (np.arange(new, dtype=np.float32) * step).astype(np.float64)


def darknet_resize(image: NDArray, size: tuple[int, int]) -> NDArray[np.float32]:
    """darknet's ``resize_image``: bilinear to (w, h), the corner pixels keep their places."""
    height, width = image.shape[:2]
    return sample(image, resize_positions(width, size[0]), resize_positions(height, size[1]))


def shift_hsv(
    image: NDArray[np.float32], hue: float, saturation: float, value: float
) -> NDArray[np.float32]:
    """Redmon's colour change of a B, G, R image in [0, 255].

    Args:
        hue: added, in parts of the circle; wraps.
        saturation, value: factors. Only the result is clipped.
    """
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    hsv = per_channel(hsv, (1, saturation, value), (360 * hue % 360, 0, 0))
    image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)  # wraps a hue above 360
    return np.clip(image, 0, 255, out=image)


@TRANSFORMS.register_module()
class DarknetResize(BaseTransform):
    """Test input of darknet without a letter box: the whole image stretched to the input.

    AlexeyAB's detector with ``letter_box=0`` and Redmon's YOLOv1.

    Required and modified keys: ``img`` (becomes float32), ``img_shape``. Added key:
    ``scale_factor`` (w, h). Boxes do not change, so use it before ``LoadAnnotations``.

    Args:
        size: (w, h) of the input.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = (size[0], size[1])

    def transform(self, results: dict) -> dict:
        """See the class."""
        height, width = results['img'].shape[:2]
        image = darknet_resize(results['img'], self.size)
        results.update(
            img=image,
            img_shape=image.shape[:2],
            scale_factor=(self.size[0] / width, self.size[1] / height),
        )
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size})'


@TRANSFORMS.register_module()
class DarknetLetterBox(BaseTransform):
    """Test input of darknet with a letter box: the image in the middle of a grey canvas.

    Redmon's detector (YOLOv2, YOLOv3) and AlexeyAB's with ``letter_box=1``. The image is resized
    by :func:`darknet_resize` so that it touches the canvas on two sides; the canvas is 127.5.

    Convention:
        Where the free room is odd, darknet places the image at a whole pixel but maps boxes back
        with the unrounded half. ``border`` holds that half, so boxes are darknet's.

    Required and modified keys: ``img`` (becomes float32), ``img_shape``. Added keys:
    ``scale_factor`` (w, h) and ``border`` (top, bottom, left, right of the image); put both into
    the ``meta_keys`` of ``PackDetInputs``. Boxes do not change, so use it before
    ``LoadAnnotations``.

    Args:
        size: (w, h) of the input.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = (size[0], size[1])

    def transform(self, results: dict) -> dict:
        """See the class."""
        height, width = results['img'].shape[:2]
        wide, high = self.size
        if wide / width < high / height:
            new = wide, height * wide // width
        else:
            new = width * high // height, high
        new = max(new[0], 1), max(new[1], 1)
        canvas = np.full((high, wide, results['img'].shape[2]), 127.5, np.float32)
        free = wide - new[0], high - new[1]
        left, top = free[0] // 2, free[1] // 2
        canvas[top : top + new[1], left : left + new[0]] = darknet_resize(results['img'], new)
        results.update(
            img=canvas,
            img_shape=canvas.shape[:2],
            scale_factor=(new[0] / width, new[1] / height),
            border=(free[1] / 2, free[1] / 2 + new[1], free[0] / 2, free[0] / 2 + new[0]),
        )
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size})'
