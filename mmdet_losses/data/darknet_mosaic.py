"""Training input of YOLOv4 as AlexeyAB's darknet makes it."""
# ruff: noqa: NPY002 (MMEngine seeds the global generator of every worker)

from __future__ import annotations

from collections.abc import Sized
from typing import Any, NamedTuple

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from numpy.typing import NDArray

from mmdet_losses.data.darknet_redmon import input_size, put_shuffled
from mmdet_losses.data.draws import coin, scale_or_inverse, whole_number
from mmdet_losses.data.objects import box_array, join_objects, put_objects
from mmdet_losses.data.pixels import (
    by_planes,
    draw_planes,
    framed,
    mirror,
    per_channel,
    resized,
    resized_span,
)
from mmdet_losses.registry import TRANSFORMS

MIN_CUT, MAX_CUT = 0.2, 0.8
# Tiles of a mosaic: 0 top left, 1 top right, 2 bottom left, 3 bottom right.
LEFT, TOP = (0, 2), (0, 1)


class Window(NamedTuple):
    """The part of an image that becomes the input: what is cut from each side, in whole pixels.

    Negative numbers add a border.
    """

    left: int
    top: int
    right: int
    bottom: int


@TRANSFORMS.register_module()
class DarknetJitter(BaseTransform):
    r"""One image as AlexeyAB's darknet trains on it: borders moved, resized, flipped, coloured.

    Sampling rule of ``load_data_detection`` without mosaic:

    1. Left and right are whole numbers truncated from U(-d, d), d = ``int(jitter * width)``, top
       and bottom likewise. With ``resize`` r two numbers :math:`r_1, r_2 \sim U(0, 1)`, shared by
       both axes, are added: left and top :math:`a + r_1 (b - a)`, right and bottom
       :math:`a + r_2 (b - a)`, with :math:`a = w (1 - r) / 2` and :math:`b = w (1 - 1 / r) / 2`.
    2. With ``letter_box`` the window grows on both sides of one axis until it has the input's
       aspect.
    3. The window is cut out; outside the image it has the mean colour of the image. It is resized
       to the input (8 bits, bilinear) and with probability 1/2 mirrored.
    4. Boxes are shuffled, the first ``max_objects`` are kept, clipped, and dropped if a side is
       less than one pixel.
    5. Colours in OpenCV's 8-bit HSV: saturation and value times t or 1/t, t ~ U(1, option); hue
       + 179 U(-hue, hue), stopped at 0. Every channel is rounded and saturated.

    Required keys: ``img`` (8 bits), ``gt_bboxes`` and what belongs to them; optional ``input_size``
    (w, h), which :class:`~mmdet_losses.data.drawn_size.DrawnSizeBatchSampler` draws. Modified keys:
    those, ``img_shape``.

    Args:
        size: (w, h) of the input where no size is drawn.
        jitter, resize, hue, saturation, exposure, letter_box, flip: darknet's options.
        max_objects: darknet's ``max``.
    """

    def __init__(
        self,
        size: tuple[int, int] = (608, 608),
        jitter: float = 0.3,
        resize: float = 1.0,
        hue: float = 0.1,
        saturation: float = 1.5,
        exposure: float = 1.5,
        letter_box: bool = False,
        flip: bool = True,
        max_objects: int = 200,
    ) -> None:
        self.size, self.jitter, self.resize = (size[0], size[1]), jitter, resize
        self.hue, self.saturation, self.exposure = hue, saturation, exposure
        self.letter_box, self.flip, self.max_objects = letter_box, flip, max_objects

    def transform(self, results: dict) -> dict:
        """See the class."""
        size = input_size(results, self.size)
        window = self._window(results['img'].shape[1::-1], size)
        flip = self.flip and coin()
        boxes = window_boxes(box_array(results), window, results['img'].shape[1::-1], size, flip)
        image = mirror(cut_window(results['img'], window, size), flip)
        results['img'] = by_planes(self._colors(image))
        results.update(img_shape=(size[1], size[0]), flip=flip)
        results['flip_direction'] = 'horizontal' if flip else None
        put_shuffled(results, boxes, size, 1 / min(size), self.max_objects)
        return results

    def _window(self, source: tuple[int, int], size: tuple[int, int]) -> Window:
        """Rule 1 and 2 for an image of (w, h) ``source`` pixels."""
        shares = np.random.random(2)
        factor = max(self.resize, 1 / self.resize)
        cuts = []
        for side in source:
            reach = int(self.jitter * side)
            low, high = int(side * (1 - factor) / 2), int(side * (1 - 1 / factor) / 2)
            if self.resize < 1:
                high = 0  # the image only gets smaller
            for share in shares:
                moved = int(np.random.uniform(-reach, reach))
                cuts.append(int(moved + low + share * (high - low)))
        left, right, top, bottom = cuts
        if self.letter_box:
            aspect, wanted = source[0] / source[1], size[0] / size[1]
            if aspect > wanted:
                grown = int((source[0] / wanted - source[1]) / 2)
                top, bottom = top - grown, bottom - grown
            else:
                grown = int((source[1] * wanted - source[0]) / 2)
                left, right = left - grown, right - grown
        return Window(left, top, right, bottom)

    def _colors(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Rule 5."""
        hue = np.random.uniform(-self.hue, self.hue)
        factors = scale_or_inverse(self.saturation), scale_or_inverse(self.exposure)
        if not image.size:
            return image
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        hsv = per_channel(hsv, (1, *factors), (179 * hue, 0, 0))  # rounds and saturates
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)

    def __repr__(self) -> str:
        names = (
            'size', 'jitter', 'resize', 'hue', 'saturation', 'exposure', 'letter_box', 'flip',
            'max_objects',
        )  # fmt: skip
        options = ', '.join(f'{name}={getattr(self, name)}' for name in names)
        return f'{type(self).__name__}({options})'


@TRANSFORMS.register_module()
class DarknetMosaic(DarknetJitter):
    r"""A mosaic of four images in half of the draws, otherwise :class:`DarknetJitter`.

    Sampling rule of ``load_data_detection`` with ``mosaic=1``:

    1. With probability ``prob`` a mosaic. darknet draws this for the images that one of its loader
       threads makes for a batch, here it is drawn for each image; the share is the same.
    2. Each tile has a window, flip and colours of its own, as in :class:`DarknetJitter`. With
       probability 1/2, for each tile, both margins of an axis are summed on the side that faces
       the middle of the mosaic, and the other margin becomes 0.
    3. The tiles meet at whole numbers from 0.2 to 0.8 of the width and of the height.
    4. Of each tile, which has the size of the input, the part next to the middle of the mosaic is
       shown: the left tiles their right end, the upper ones their lower end. If the window has a
       border there, the part is moved away from the middle by the width of that border.
    5. Boxes move with their tile and are clipped to the whole input, not to the tile: a box may
       reach into the neighbouring tile that covers the object. ``mosaic_bound=True`` clips them to
       their tile. Boxes of one pixel or less, or of the whole width or height, are dropped.
       ``max_objects`` holds for all tiles together.

    Use it in a data set that knows ``get_indexes``, such as
    :class:`~mmdet_losses.data.mixed_dataset.MixedImageDataset`.

    Required keys: those of :class:`DarknetJitter`, and ``mix_results``, three further images (or
    none: no mosaic). Added key: ``mosaic_cut`` (x, y) in pixels, in mosaics only.

    Args:
        prob: see above.
        mosaic_bound: darknet's option, see above.
        *args, **kwargs: of :class:`DarknetJitter`.

    Raises:
        ValueError: with ``letter_box``; darknet stops at that combination too.
    """

    def __init__(
        self, *args: Any, prob: float = 0.5, mosaic_bound: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        if self.letter_box:
            raise ValueError(
                'DarknetMosaic: letter_box=True is not supported, as in darknet; '
                'leave it out, or use DarknetJitter.'
            )
        self.prob, self.mosaic_bound = prob, mosaic_bound

    def get_indexes(self, dataset: Sized) -> list[int]:
        """Indices of the three other images of a mosaic; empty without mosaic."""
        return np.random.randint(len(dataset), size=3).tolist() if coin(self.prob) else []

    def transform(self, results: dict) -> dict:
        """See the class."""
        others = results.pop('mix_results', None)
        if not others:
            return super().transform(results)
        size = input_size(results, self.size)
        cut = tuple(whole_number(int(MIN_CUT * side), int(MAX_CUT * side)) for side in size)
        tiles = [results, *others]
        placed = [self._place(tile, number, cut, size) for number, tile in enumerate(tiles)]
        moved = [self._moved(*pair) for pair in zip(tiles, placed, strict=True)]
        canvas = np.empty((results['img'].shape[2], size[1], size[0]), np.uint8)
        for tile, place in zip(tiles, placed, strict=True):
            image = cut_window(tile['img'], place.window, size, place.shown(size[0]))
            image = self._colors(mirror(image, place.flip))
            draw_planes(image, canvas[:, place.rows.canvas, place.columns.canvas])
        results.update(join_objects(tiles), img=canvas.transpose(1, 2, 0), mosaic_cut=cut)
        results['img_shape'] = canvas.shape[1:]
        boxes = np.concatenate(moved).clip(0, [*size, *size])
        sides = boxes[:, 2:] - boxes[:, :2]
        kept = np.flatnonzero(((sides > 1) & (sides < size)).all(1))
        put_objects(results, boxes, kept[: self.max_objects])
        return results

    def _place(self, tile: dict, number: int, cut: tuple[int, ...], size: tuple[int, int]) -> Place:
        """Draw the geometry of a tile; its boxes move to the tile resized to ``size``."""
        source = tile['img'].shape[1::-1]
        flip = self.flip and coin()
        window = self._window(source, size)
        if coin():
            window = _summed(window, right=(number in LEFT) != flip, bottom=number in TOP)
        boxes = window_boxes(box_array(tile), window, source, size, flip)
        put_shuffled(tile, boxes, size, 1 / min(size), self.max_objects)
        left, top, right, bottom = window
        if flip:
            left, right = right, left
        columns = _shown(size[0], cut[0], number in LEFT, (left, right), source[0])
        rows = _shown(size[1], cut[1], number in TOP, (top, bottom), source[1])
        return Place(window, flip, columns, rows)

    def _moved(self, tile: dict, place: Place) -> NDArray[np.float64]:
        """Boxes (n, 4) of a tile on the canvas."""
        columns, rows = place.columns, place.rows
        moved = box_array(tile) + [columns.shift, rows.shift] * 2
        if self.mosaic_bound:
            low = columns.canvas.start, rows.canvas.start
            high = columns.canvas.stop, rows.canvas.stop
            moved = moved.clip([*low, *low], [*high, *high])
        return moved

    def __repr__(self) -> str:
        options = f'prob={self.prob}, mosaic_bound={self.mosaic_bound}'
        return f'{super().__repr__()[:-1]}, {options})'


class Shown(NamedTuple):
    """What a mosaic shows of a tile along one axis."""

    tile: tuple[int, int]
    """First and last pixel of the tile, the last excluded."""
    canvas: slice
    """The same pixels on the canvas."""
    shift: int
    """What moves the one to the other."""


class Place(NamedTuple):
    """Geometry of a tile of a mosaic."""

    window: Window
    flip: bool
    columns: Shown
    """Of the mirrored tile."""
    rows: Shown

    def shown(self, width: int) -> tuple[int, int, int, int]:
        """Window (x1, y1, x2, y2) of the tile of this width before it is mirrored."""
        (x1, x2), (y1, y2) = self.columns.tile, self.rows.tile
        return (width - x2, y1, width - x1, y2) if self.flip else (x1, y1, x2, y2)


def _shown(side: int, cut: int, first: bool, margins: tuple[int, int], source: int) -> Shown:
    """Rule 4 of :class:`DarknetMosaic` along one axis.

    Args:
        side: pixels of the input.
        cut: where the tiles meet.
        first: whether this is the left or upper tile.
        margins: of the tile's window before and behind, in pixels of the source.
        source: pixels of the source.
    """
    if first:
        border = min(side - cut, max(0, int(-margins[1] * side / source)))
        start = side - cut - border
        return Shown((start, start + cut), slice(0, cut), -start)
    border = min(cut, max(0, int(-margins[0] * side / source)))
    return Shown((border, border + side - cut), slice(cut, side), cut - border)


def _summed(window: Window, right: bool, bottom: bool) -> Window:
    """Both margins of each axis on one side: right or left, bottom or top."""
    x, y = window.left + window.right, window.top + window.bottom
    return Window(0 if right else x, 0 if bottom else y, x if right else 0, y if bottom else 0)


def window_boxes(
    boxes: NDArray[np.floating],
    window: Window,
    source: tuple[int, int],
    size: tuple[int, int],
    flip: bool,
) -> NDArray[np.floating]:
    """Boxes (n, 4) of the source image in pixels of the resized, perhaps mirrored window."""
    wide, high = _spans(window, source)
    x, y = size[0] / wide, size[1] / high
    boxes = (boxes - [window.left, window.top] * 2) * [x, y, x, y]
    if flip:
        boxes[:, [0, 2]] = size[0] - boxes[:, [2, 0]]
    return boxes


def cut_window(
    image: NDArray[np.uint8],
    window: Window,
    size: tuple[int, int],
    shown: tuple[int, int, int, int] | None = None,
) -> NDArray[np.uint8]:
    """The window of the image resized to (w, h); outside the image its mean colour.

    Args:
        image: (h, w, C).
        window: in pixels of the image.
        size: of the resized window.
        shown: (x1, y1, x2, y2), the part of the resized window to return; None: all of it.
    """
    height, width = image.shape[:2]
    wide, high = _spans(window, (width, height))
    x1, y1, x2, y2 = (0, 0, *size) if shown is None else shown
    columns, rows = resized_span(wide, size[0], x1, x2), resized_span(high, size[1], y1, y2)
    left, right = (window.left + edge for edge in (columns.read.start, columns.read.stop))
    top, bottom = (window.top + edge for edge in (rows.read.start, rows.read.stop))
    part = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if part.shape[:2] != (bottom - top, right - left):
        mean = np.rint(cv2.mean(image)[: image.shape[2]])
        part = framed(part, (right - left, bottom - top), (max(-left, 0), max(-top, 0)), mean)
    return resized(part, (size[0] / wide, size[1] / high), columns, rows)


def _spans(window: Window, source: tuple[int, int]) -> tuple[int, int]:
    """(w, h) of a window, at least one pixel."""
    wide = source[0] - window.left - window.right
    high = source[1] - window.top - window.bottom
    return max(wide, 1), max(high, 1)
