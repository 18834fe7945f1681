"""Training and test input of Scaled-YOLOv4's PyTorch code."""
# ruff: noqa: NPY002 (MMEngine seeds the global generator of every worker)

from __future__ import annotations

import math
from collections.abc import Sequence, Sized
from typing import Literal, NamedTuple

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.structures.bbox import HorizontalBoxes
from numpy.typing import NDArray

from mmdet_losses.data.draws import coin
from mmdet_losses.data.objects import box_array, join_objects, put_objects
from mmdet_losses.data.pixels import by_planes, draw_planes, resized_part, warped
from mmdet_losses.ops import check_choice
from mmdet_losses.registry import TRANSFORMS

GRAY = 114
MAX_ASPECT = 20  # a longer side of so many shorter ones
MIN_SIDE = 2  # pixels


class TilePlace(NamedTuple):
    """Borders of a tile on the canvas of a mosaic, in pixels."""

    left: int
    top: int
    right: int
    bottom: int


class Drawn(NamedTuple):
    """A mosaic, and the window (x1, y1, x2, y2) outside which it is grey."""

    image: NDArray[np.uint8]
    window: tuple[int, int, int, int]


def _moved(tile: dict, place: TilePlace) -> NDArray[np.float64]:
    """Boxes (n, 4) of a tile on the canvas."""
    height, width = tile['img'].shape[:2]
    x, y = (place.right - place.left) / width, (place.bottom - place.top) / height
    return box_array(tile) * [x, y, x, y] + [place.left, place.top] * 2


def _paste(image: NDArray, place: TilePlace, corner: NDArray, canvas: NDArray) -> None:
    """Resize a tile and draw the part that a canvas shows.

    Args:
        image: of the tile.
        place: of the tile on the whole canvas.
        corner: (x, y) of the first pixel of ``canvas`` on the whole canvas.
        canvas: the part to draw on; changed.
    """
    left, top = place.left - corner[0], place.top - corner[1]
    wide, high = place.right - place.left, place.bottom - place.top
    x1, y1 = max(left, 0), max(top, 0)
    x2, y2 = min(left + wide, canvas.shape[1]), min(top + high, canvas.shape[0])
    if x2 <= x1 or y2 <= y1:
        return
    canvas[y1:y2, x1:x2] = resized_part(
        image, (wide, high), (x1 - left, y1 - top, x2 - left, y2 - top)
    )


@TRANSFORMS.register_module()
class ScaledYOLOv4Mosaic(BaseTransform):
    r"""Four images around one point, scaled about the middle and shifted; perhaps two blended.

    Sampling rule of the official code:

    1. Every image is resized bilinearly until its longer side has the size of the input. The
       images meet at a point of a grey canvas of twice the size: its middle (``center='middle'``,
       branch yolov4-large, where nothing is cut), or a point uniform in the middle half of each
       axis ('random', branch yolov4-csp, where images are cut at the canvas). Boxes are clipped
       to the canvas.
    2. One map about the middle of the canvas: scale g ~ U(1 - ``scale``, 1 + ``scale``), and the
       middle goes to U(0.5 - ``translate``, 0.5 + ``translate``) of the input, for x and y. No
       rotation, no shear; grey (114) outside.
    3. Boxes are clipped to the input and kept if both sides are more than 2 pixels, the area is
       more than ``min_area`` of the scaled one, and the longer side is less than 20 times the
       shorter.
    4. With probability ``mixup`` a second mosaic of other images is made in the same way and
       blended, r to 1 - r with r ~ Beta(8, 8), in 8 bits. The boxes of both count fully.

    Follow it by :class:`ScaledYOLOv4HSV` and MMDetection's ``RandomFlip(prob=0.5)``.

    Required keys: ``img`` (8 bits), ``gt_bboxes`` and what belongs to them, ``mix_results`` (three
    further images, seven with mixup). Modified keys: those, ``img_shape``. Added keys: ``mixed``;
    ``drawn``, without mixup, with which :class:`ScaledYOLOv4HSV` skips the grey border.

    Args:
        size: pixels of each side of the square input.
        scale, translate, mixup: the official hyper-parameters.
        center: see above.
        min_area: see above; 0.1 in branch yolov4-csp.

    Raises:
        ValueError: unknown ``center``.
    """

    def __init__(
        self,
        size: int = 640,
        scale: float = 0.5,
        translate: float = 0.5,
        mixup: float = 0.0,
        center: Literal['middle', 'random'] = 'middle',
        min_area: float = 0.2,
    ) -> None:
        check_choice('center', center, ('middle', 'random'))
        self.size, self.scale, self.translate = size, scale, translate
        self.mixup, self.center, self.min_area = mixup, center, min_area

    def get_indexes(self, dataset: Sized) -> list[int]:
        """Indices of the other images: three, or seven where two mosaics are blended."""
        count = 7 if coin(self.mixup) else 3
        return np.random.randint(len(dataset), size=count).tolist()

    def transform(self, results: dict) -> dict:
        """See the class."""
        tiles = [results, *results.pop('mix_results')]
        drawn, objects = self._mosaic(tiles[:4])
        image = drawn.image
        mixed = len(tiles) == 8
        if mixed:
            other, others = self._mosaic(tiles[4:])
            ratio = np.random.beta(8.0, 8.0)
            image = (image * ratio + other.image * (1 - ratio)).astype(np.uint8)
            boxes = HorizontalBoxes.cat([objects['gt_bboxes'], others['gt_bboxes']])
            objects = {**join_objects([objects, others]), 'gt_bboxes': boxes}
        else:
            results['drawn'] = drawn
        results.update(objects, img=image, img_shape=image.shape[:2], mixed=mixed)
        return results

    def _mosaic(self, tiles: Sequence[dict]) -> tuple[Drawn, dict]:
        """Image and objects of one mosaic."""
        side = 2 * self.size
        meet = [self.size, self.size]
        if self.center == 'random':
            meet = [int(np.random.uniform(side / 4, 3 * side / 4)) for _ in range(2)]
        gain = np.random.uniform(1 - self.scale, 1 + self.scale)
        low, high = 0.5 - self.translate, 0.5 + self.translate
        shift = np.random.uniform(low, high, 2) * self.size - gain * self.size
        places = [self._place(tile, number, meet) for number, tile in enumerate(tiles)]
        drawn = self._draw(tiles, places, gain, shift)
        joined = join_objects(tiles)
        before = [_moved(tile, place) for tile, place in zip(tiles, places, strict=True)]
        scaled = np.concatenate(before).clip(0, side) * gain
        boxes = (scaled + np.tile(shift, 2)).clip(0, self.size)
        put_objects(joined, boxes, self._kept(scaled, boxes))
        return drawn, joined

    def _place(self, tile: dict, number: int, meet: list[int]) -> TilePlace:
        """Where a tile is on the canvas."""
        height, width = tile['img'].shape[:2]
        ratio, wide, high = self.size / max(height, width), width, height
        if ratio != 1:
            wide, high = max(int(width * ratio), 1), max(int(height * ratio), 1)
        left = meet[0] - (wide if number in (0, 2) else 0)
        top = meet[1] - (high if number in (0, 1) else 0)
        return TilePlace(left, top, left + wide, top + high)

    def _draw(
        self, tiles: Sequence[dict], places: Sequence[TilePlace], gain: float, shift: NDArray
    ) -> Drawn:
        """The input: rule 1 and 2 for the part of the canvas that has tiles and is shown."""
        image = np.full((self.size, self.size, tiles[0]['img'].shape[2]), GRAY, np.uint8)
        ends = np.array(places)
        # pixels of the canvas between which the input interpolates
        low = np.maximum(np.floor(-shift / gain).astype(int) - 1, 0)
        low = np.maximum(low, ends[:, :2].min(0))
        high = np.minimum(np.ceil((self.size - shift) / gain).astype(int) + 1, 2 * self.size)
        high = np.minimum(high, ends[:, 2:].max(0))
        if (high <= low).any():
            return Drawn(image, (0, 0, 0, 0))
        canvas = np.full((*(high - low)[::-1], image.shape[2]), GRAY, np.uint8)
        for tile, place in zip(tiles, places, strict=True):
            _paste(tile['img'], place, low, canvas)
        first = np.floor(gain * low + shift).astype(int).clip(0, self.size)
        stop = (np.ceil(gain * high + shift).astype(int) + 1).clip(0, self.size)
        if (stop <= first).any():
            return Drawn(image, (0, 0, 0, 0))
        moved = shift + gain * low - first
        matrix = np.array([[gain, 0, moved[0]], [0, gain, moved[1]]])
        (x1, y1), (x2, y2) = first.tolist(), stop.tolist()
        image[y1:y2, x1:x2] = warped(canvas, matrix, (x2 - x1, y2 - y1), (GRAY, GRAY, GRAY))
        return Drawn(image, (x1, y1, x2, y2))

    def _kept(self, before: NDArray, after: NDArray) -> NDArray[np.bool_]:
        """Rule 3."""
        (old_w, old_h), (w, h) = ((b[:, 2:] - b[:, :2]).T for b in (before, after))
        with np.errstate(divide='ignore', invalid='ignore'):
            share = w * h / (old_w * old_h)
            aspect = np.maximum(w / h, h / w)
        large = (w > MIN_SIDE) & (h > MIN_SIDE)
        return large & (share > self.min_area) & (aspect < MAX_ASPECT)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(size={self.size}, scale={self.scale}, '
            f'translate={self.translate}, mixup={self.mixup}, center={self.center!r}, '
            f'min_area={self.min_area})'
        )


@TRANSFORMS.register_module()
class ScaledYOLOv4HSV(BaseTransform):
    r"""Three gains in OpenCV's 8-bit HSV: the colours of Scaled-YOLOv4 in training.

    Sampling rule: each gain is 1 + U(-1, 1) times its option. Hue times gain modulo 180, saturation
    and value times gain clipped to 255, all truncated, by tables. Always applied.

    MMDetection's ``YOLOXHSVRandomAug`` adds to the channels instead.

    Required and modified key: ``img``, 8 bits, B, G, R.

    Args:
        hue, saturation, value: the official hyper-parameters hsv_h, hsv_s, hsv_v.
    """

    def __init__(self, hue: float = 0.015, saturation: float = 0.7, value: float = 0.4) -> None:
        self.options = hue, saturation, value

    def transform(self, results: dict) -> dict:
        """See the class."""
        hue, saturation, value = 1 + np.random.uniform(-1, 1, 3) * self.options
        levels = np.arange(256)
        tables = levels * hue % 180, levels * saturation, levels * value
        table = np.stack([each.clip(0, 255) for each in tables], -1).astype(np.uint8)
        image, drawn = results['img'], results.pop('drawn', None)
        if drawn is None or drawn.image is not image:
            results['img'] = by_planes(_through(image, table))
            return results
        # outside the window one pixel stands for all
        border = _through(np.full((1, 1, 3), GRAY, np.uint8), table)[0, 0]
        x1, y1, x2, y2 = drawn.window
        planes = np.empty((3, *image.shape[:2]), np.uint8)
        planes[:] = border[:, None, None]
        if x2 > x1:
            draw_planes(_through(image[y1:y2, x1:x2], table), planes[:, y1:y2, x1:x2])
        results['img'] = planes.transpose(1, 2, 0)
        return results

    def __repr__(self) -> str:
        hue, saturation, value = self.options
        return f'{type(self).__name__}(hue={hue}, saturation={saturation}, value={value})'


def _through(image: NDArray[np.uint8], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image with its levels in OpenCV's 8-bit HSV replaced by those of a table (256, 3)."""
    hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_BGR2HSV), table[:, None])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)


@TRANSFORMS.register_module()
class ScaledYOLOv4LetterBox(BaseTransform):
    r"""Test input of Scaled-YOLOv4: the image in the middle of a grey square.

    The longer side gets ``size`` pixels, by area interpolation where the image shrinks and
    bilinearly where it grows. The square has ``ceil(size / stride + 0.5) * stride`` pixels: half a
    stride of padding, rounded up, so that objects at the border have whole cells around them. The
    official test loads images in order of their aspect and pads each batch to the aspect that it
    needs; a batch of mixed aspects is this square.

    Required and modified keys: ``img``, ``img_shape``. Added keys: ``scale_factor`` (w, h) and
    ``border`` (top, bottom, left, right of the image); put both into the ``meta_keys`` of
    ``PackDetInputs``. Boxes do not change, so use it before ``LoadAnnotations``.

    Args:
        size: pixels of the longer side.
        stride: largest stride of the network.
    """

    def __init__(self, size: int = 640, stride: int = 32) -> None:
        self.size, self.stride = size, stride

    def transform(self, results: dict) -> dict:
        """See the class."""
        image = results['img']
        height, width = image.shape[:2]
        ratio = self.size / max(height, width)
        if ratio != 1:
            new = max(int(width * ratio), 1), max(int(height * ratio), 1)
            way = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
            image = cv2.resize(image, new, interpolation=way)
        high, wide = image.shape[:2]
        side = math.ceil(self.size / self.stride + 0.5) * self.stride
        canvas = np.full((side, side, image.shape[2]), GRAY, image.dtype)
        left, top = round((side - wide) / 2 - 0.1), round((side - high) / 2 - 0.1)
        canvas[top : top + high, left : left + wide] = image
        results.update(
            img=canvas,
            img_shape=canvas.shape[:2],
            scale_factor=(wide / width, high / height),
            border=(top, top + high, left, left + wide),
        )
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size}, stride={self.stride})'
