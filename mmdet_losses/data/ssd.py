"""Training input of SSD, as ssd.pytorch makes it."""
# ruff: noqa: NPY002 (MMEngine seeds the global generator of every worker)

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from numpy.typing import NDArray

from mmdet_losses.data import ssd_caffe
from mmdet_losses.data.darknet_image import sample
from mmdet_losses.data.draws import coin
from mmdet_losses.data.objects import box_array, learned, put_objects
from mmdet_losses.data.pixels import framed, per_channel
from mmdet_losses.ops import check_choice
from mmdet_losses.registry import TRANSFORMS

Code = Literal['pytorch', 'caffe']
TRIES = 50


class Canvas(NamedTuple):
    """The image on a larger canvas of (w, h) ``size``, its first pixel at (x, y) ``offset``."""

    size: tuple[int, int]
    offset: tuple[int, int]


@TRANSFORMS.register_module()
class SSDAugmentation(BaseTransform):
    r"""Colours, a larger canvas and a random crop: the training input of SSD before its resize.

    Sampling rule of ssd.pytorch (``code='pytorch'``):

    1. Colours of the float image, never clipped. Brightness with probability 1/2: + U(-32, 32).
       Contrast before or after the rest, equally likely, with probability 1/2: x U(0.5, 1.5).
       In HSV saturation with probability 1/2: x U(0.5, 1.5), hue with probability 1/2:
       + U(-18, 18) degrees. Then with probability 1/2 one of the six orders of the channels.
    2. With probability 1/2 the image is placed on a canvas r times as large, r ~ U(1, 4), at a
       random position. The canvas has the colour ``mean``, which the normalisation turns into
       zero: the colours above do not change it.
    3. One of six modes, equally likely: the whole canvas, four minimum overlaps, or a free crop.
       The official code never enforces the minimum overlap, so five of six modes are the same free
       crop: up to 50 tries, then a new mode; sides U(0.3, 1) of the canvas, 1/2 <= h/w <= 2, at
       least one box centre strictly inside.
    4. Boxes with their centre inside stay, clipped to the crop.

    5. With ``size`` the crop is resized bilinearly. The canvas is not painted: only the pixels
       between which the result interpolates are read and coloured.

    Caffe's rule (``code='caffe'``) is in :mod:`~mmdet_losses.data.ssd_caffe`; it also draws the
    interpolation of the resize, so it needs ``size``.

    Follow it by MMDetection's ``RandomFlip``, without ``size`` also by its ``Resize``.

    Required keys: ``img`` (B, G, R), ``gt_bboxes`` and what belongs to them. Modified keys: those,
    ``img_shape``. With 'pytorch' the image becomes float32.

    Convention:
        The colours change single pixels, so they are computed after the crop, for the part of the
        image that the crop shows. The result is the same. An image without learned objects is
        used whole.

    Args:
        mean: colour of the canvas in R, G, B; the mean of the data preprocessor.
        code: 'pytorch' or 'caffe'.
        size: (w, h) of the network's input; None: not resized.

    Raises:
        ValueError: unknown ``code``, or 'caffe' without ``size``.
    """

    def __init__(
        self,
        mean: tuple[float, float, float] = (123, 117, 104),
        code: Code = 'pytorch',
        size: tuple[int, int] | None = None,
    ) -> None:
        check_choice('code', code, ('pytorch', 'caffe'))
        if code == 'caffe' and size is None:
            raise ValueError("code='caffe' draws the interpolation of the resize; give size.")
        self.mean, self.code = tuple(mean), code
        self.size = None if size is None else (size[0], size[1])

    def transform(self, results: dict) -> dict:
        """See the class."""
        height, width = results['img'].shape[:2]
        canvas = draw_canvas(width, height, self.code)
        boxes = box_array(results) + np.tile(canvas.offset, 2)
        wanted = boxes[learned(results)]
        if not len(wanted):
            crop = (0, 0, *canvas.size)
        elif self.code == 'pytorch':
            crop = draw_crop(canvas.size, wanted)
        else:
            crop = ssd_caffe.draw_crop(canvas.size, wanted)
        place = canvas.offset[0] - crop[0], canvas.offset[1] - crop[1]
        sides = crop[2] - crop[0], crop[3] - crop[1]
        if self.code == 'caffe':
            image = cut(results['img'], place, sides, ssd_caffe.distort_bytes, self.mean[::-1])
        elif self.size is None:
            image = cut(results['img'], place, sides, distort_floats, self.mean[::-1])
        else:
            image = self._resized(results['img'], place, sides, self.size)
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        kept = ((centers > crop[:2]) & (centers < crop[2:])).all(1)
        boxes = boxes.clip(np.tile(crop[:2], 2), np.tile(crop[2:], 2)) - np.tile(crop[:2], 2)
        if self.size is not None:
            boxes *= np.tile(np.divide(self.size, sides), 2)
            image = ssd_caffe.resize(image, self.size) if self.code == 'caffe' else image
        put_objects(results, boxes, kept)
        results.update(img=image, img_shape=image.shape[:2])
        return results

    def _resized(
        self,
        image: NDArray,
        place: tuple[int, int],
        sides: tuple[int, int],
        size: tuple[int, int],
    ) -> NDArray[np.float32]:
        """The crop of (w, h) ``sides`` with the image at (x, y) ``place``, resized, as OpenCV does.

        Of a large crop most rows and columns are not read, so they are left out first.
        """
        used, positions = [], []
        for side, new in zip(sides, size, strict=True):
            position = ((np.arange(new) + 0.5) * side / new - 0.5).clip(0, side - 1)
            position = np.rint(position * 2**14) / 2**14  # the border keeps exactly its colour
            first = position.astype(int)
            lines = np.unique((first, np.minimum(first + 1, side - 1)))
            used.append(lines)
            positions.append(np.searchsorted(lines, first) + position - first)
        inside = [
            lines[(lines >= start) & (lines < start + side)]
            for lines, start, side in zip(used, place, image.shape[1::-1], strict=True)
        ]
        left, top = (
            int(np.searchsorted(lines, each[0])) if len(each) else 0
            for lines, each in zip(used, inside, strict=True)
        )
        part = _lines(_lines(image, inside[1] - place[1], 0), inside[0] - place[0], 1)
        part = distort_floats(part)
        drawn = framed(part, (len(used[0]), len(used[1])), (left, top), self.mean[::-1])
        return sample(drawn, positions[0], positions[1])

    def __repr__(self) -> str:
        return f'{type(self).__name__}(mean={self.mean}, code={self.code!r}, size={self.size})'


def cut(
    image: NDArray,
    place: tuple[int, int],
    sides: tuple[int, int],
    distort: Callable[[NDArray], NDArray],
    color: Sequence[float],
) -> NDArray:
    """A crop of (w, h) ``sides`` with the image, in new colours, at (x, y) ``place``.

    The rest has the given colour. The place may be negative: the crop shows a part of the image.
    """
    left, top = place
    x1, y1 = max(left, 0), max(top, 0)
    x2, y2 = min(left + image.shape[1], sides[0]), min(top + image.shape[0], sides[1])
    shown = distort(image[y1 - top : max(y2, y1) - top, x1 - left : max(x2, x1) - left])
    return framed(shown, sides, (x1, y1), color)


def _lines(image: NDArray, numbers: NDArray[np.integer], axis: int) -> NDArray:
    """Rows (axis 0) or columns (axis 1) of ascending numbers; without a copy if none is missing."""
    if len(numbers) and numbers[-1] - numbers[0] + 1 == len(numbers):
        span = slice(numbers[0], numbers[-1] + 1)
        return image[span] if axis == 0 else image[:, span]
    return image.take(numbers, axis)


def draw_canvas(width: int, height: int, code: Code = 'pytorch') -> Canvas:
    """With probability 1/2 a canvas up to four times as wide and high as the image."""
    if coin():
        return Canvas((width, height), (0, 0))
    ratio = np.random.uniform(1, 4)
    if code == 'caffe' and ratio < 1.01:
        return Canvas((width, height), (0, 0))
    size = int(width * ratio), int(height * ratio)
    room = (width * ratio - width, height * ratio - height)
    if code == 'caffe':
        room = (size[0] - width, size[1] - height)
    return Canvas(size, (int(np.random.uniform(0, room[0])), int(np.random.uniform(0, room[1]))))


def draw_crop(size: tuple[int, int], boxes: NDArray[np.floating]) -> tuple[int, int, int, int]:
    """ssd.pytorch's random crop (x1, y1, x2, y2) of a (w, h) canvas with some boxes."""
    width, height = size
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    while np.random.randint(6):  # mode 0 is the whole canvas
        for _ in range(TRIES):
            w, h = np.random.uniform(0.3, 1) * width, np.random.uniform(0.3, 1) * height
            if not 0.5 <= h / w <= 2:
                continue
            left, top = np.random.uniform(0, width - w), np.random.uniform(0, height - h)
            crop = int(left), int(top), int(left + w), int(top + h)
            if ((centers > crop[:2]) & (centers < crop[2:])).all(1).any():
                return crop
    return 0, 0, width, height


def distort_floats(image: NDArray) -> NDArray[np.float32]:
    """ssd.pytorch's colours of a B, G, R image; see :class:`SSDAugmentation`."""
    image = image.astype(np.float32)
    brightness, contrast, last, saturation, hue, swap = (coin() for _ in range(6))
    shift, alpha = np.random.uniform(-32, 32), np.random.uniform(0.5, 1.5)
    if not image.size:
        return image
    if brightness:
        image += np.float32(shift)
    if contrast and not last:
        image *= np.float32(alpha)
    if saturation or hue:
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        factor = np.random.uniform(0.5, 1.5) if saturation else 1.0
        turn = np.random.uniform(-18, 18) if hue else 0.0
        hsv = per_channel(hsv, (1, factor, 1), (turn % 360, 0, 0))
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)  # wraps a hue above 360
    if contrast and last:
        image *= np.float32(alpha)
    return cv2.transform(image, np.eye(3)[np.random.permutation(3)]) if swap else image
