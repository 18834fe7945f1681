"""Training input of YOLOv1, YOLOv2 and YOLOv3 as Redmon's darknet makes it."""
# ruff: noqa: NPY002 (MMEngine seeds the global generator of every worker)

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform
from numpy.typing import NDArray

from mmdet_losses.data.darknet_image import resize_positions, sample, shift_hsv
from mmdet_losses.data.draws import scale_or_inverse
from mmdet_losses.data.objects import box_array, put_objects
from mmdet_losses.data.pixels import by_planes, in_memory_order
from mmdet_losses.registry import TRANSFORMS


def put_shuffled(
    results: dict,
    boxes: NDArray[np.floating],
    size: tuple[int, int],
    min_side: float,
    limit: int | None = None,
) -> None:
    """Replace the boxes by their clipped new places, in random order.

    Args:
        results: of a pipeline; changed.
        boxes: (n, 4) in pixels of the new image, perhaps outside.
        size: (w, h) of the new image.
        min_side: drop boxes whose width or height is less, in parts of the image.
        limit: keep the first so many before dropping, as both darknets do; None: all.
    """
    order = np.random.permutation(len(boxes))[:limit]
    boxes = boxes.clip(0, [*size, *size])
    sides = (boxes[:, 2:] - boxes[:, :2]) / size
    large = sides.min(1) >= min_side
    put_objects(results, boxes, order[large[order]])


def input_size(results: dict, size: tuple[int, int]) -> tuple[int, int]:
    """(w, h) that the batch has, see ``DrawnSizeBatchSampler``; without one the given size."""
    return results.get('input_size', size)


@TRANSFORMS.register_module()
class RedmonCrop(BaseTransform):
    r"""Training geometry of YOLOv1: each border of the image moves, then it is resized.

    Sampling rule of Redmon's ``load_data_region``: left and right are whole numbers truncated from
    U(-d, d), d = ``int(jitter * width)``; top and bottom likewise with the height. Positive numbers
    cut away, negative ones add pixels that repeat the edge. The window is resized to the input by
    :func:`~mmdet_losses.data.darknet_image.darknet_resize`; its aspect changes freely. Boxes are
    clipped, and dropped if a side is less than 0.005 of the input. They come in random order: of
    the objects of one cell darknet learns the first.

    Follow it by MMDetection's ``RandomFlip(prob=0.5)`` and :class:`RedmonColors`.

    Required keys: ``img``, ``gt_bboxes`` and what belongs to them. Modified keys: those,
    ``img_shape``. The image becomes float32.

    Args:
        size: (w, h) of the input.
        jitter: darknet's option.
    """

    def __init__(self, size: tuple[int, int] = (448, 448), jitter: float = 0.2) -> None:
        self.size, self.jitter = (size[0], size[1]), jitter

    def transform(self, results: dict) -> dict:
        """See the class."""
        image, size = results['img'], input_size(results, self.size)
        starts, spans = [], []
        for side in image.shape[1::-1]:
            reach = int(self.jitter * side)
            low, high = (int(each) for each in np.random.uniform(-reach, reach, 2))
            starts.append(low)
            spans.append(max(side - low - high, 1))
        x, y = (
            start + resize_positions(span, new)
            for start, span, new in zip(starts, spans, size, strict=True)
        )
        boxes = (box_array(results) - np.tile(starts, 2)) * np.tile(np.divide(size, spans), 2)
        results['img'] = sample(image, x, y)
        results['img_shape'] = results['img'].shape[:2]
        put_shuffled(results, boxes, size, 0.005)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size}, jitter={self.jitter})'


@TRANSFORMS.register_module()
class RedmonPlace(BaseTransform):
    r"""Training geometry of YOLOv2 and YOLOv3: the whole image with a new aspect, on grey.

    Sampling rule of Redmon's ``load_data_detection``: the new aspect is
    :math:`a = (w + U(-jw, jw)) / (h + U(-jh, jh))`, j the jitter. The image gets the full height
    of the input if a < 1, else the full width, and keeps the aspect a. It is placed at a uniform
    position; it is never cropped. The rest is 127.5. Sizes and positions of the pixels are
    truncated, those of the boxes are not. Pixel x of the placed image shows the source at
    ``x * w / new_w``, bilinear, with zeros beyond the last pixel.

    Boxes are shuffled, the first ``max_objects`` are kept, and those with a side of less than 0.001
    of the input are dropped.

    Follow it by MMDetection's ``RandomFlip(prob=0.5)`` and :class:`RedmonColors`.

    Required keys: ``img``, ``gt_bboxes`` and what belongs to them; optional ``input_size`` (w, h),
    which :class:`~mmdet_losses.data.drawn_size.DrawnSizeBatchSampler` draws. Modified keys: those,
    ``img_shape``. The image becomes float32.

    Args:
        size: (w, h) of the input where no size is drawn.
        jitter: darknet's option.
        max_objects: darknet's limit, 30 in YOLOv2's layer and 90 in YOLOv3's.
    """

    def __init__(
        self, size: tuple[int, int] = (416, 416), jitter: float = 0.3, max_objects: int = 90
    ) -> None:
        self.size, self.jitter, self.max_objects = (size[0], size[1]), jitter, max_objects

    def transform(self, results: dict) -> dict:
        """See the class."""
        image = results['img']
        source = np.array(image.shape[1::-1])
        wide, high = input_size(results, self.size)
        jittered = source + np.random.uniform(-1, 1, 2) * self.jitter * source
        aspect = jittered[0] / jittered[1]
        new = np.array([high * aspect, high] if aspect < 1 else [wide, wide / aspect])
        # An input that is no square may be shorter than the image; darknet then loses the rest.
        offset = np.random.uniform(0, 1, 2) * (np.array([wide, high]) - new)
        results['img'] = _place(image, (wide, high), new, offset)
        results['img_shape'] = results['img'].shape[:2]
        boxes = box_array(results) * np.tile(new / source, 2) + np.tile(offset, 2)
        put_shuffled(results, boxes, (wide, high), 0.001, self.max_objects)
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(size={self.size}, jitter={self.jitter}, '
            f'max_objects={self.max_objects})'
        )


def _place(
    image: NDArray, size: tuple[int, int], new: NDArray, offset: NDArray
) -> NDArray[np.float32]:
    """The image resized to ``new`` (w, h) at ``offset`` (x, y) on a grey canvas."""
    canvas = np.full((size[1], size[0], image.shape[2]), 127.5, np.float32)
    shown = np.maximum(new.astype(int), 1)
    left, top = offset.astype(int)
    places = []
    for axis, start in enumerate((left, top)):
        first, stop = max(-start, 0), min(shown[axis], size[axis] - start)
        places.append(np.arange(first, stop) * (image.shape[1 - axis] / shown[axis]))
    part = sample(image, places[0], places[1], border='zero')
    left, top = max(left, 0), max(top, 0)
    canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
    return canvas


@TRANSFORMS.register_module()
class RedmonColors(BaseTransform):
    r"""Colours of YOLOv1, YOLOv2 and YOLOv3 in training.

    Sampling rule of Redmon's ``random_distort_image``, in HSV: hue + U(-hue, hue) of the circle,
    wrapped; saturation and value each times t or 1/t, equally likely, t ~ U(1, ``saturation``) or
    U(1, ``exposure``). Only the result is clipped. It changes the grey border too.

    Required and modified key: ``img``, B, G, R in [0, 255]; becomes float32.

    Args:
        hue, saturation, exposure: darknet's options.
    """

    def __init__(self, hue: float = 0.1, saturation: float = 1.5, exposure: float = 1.5) -> None:
        self.hue, self.saturation, self.exposure = hue, saturation, exposure

    def transform(self, results: dict) -> dict:
        """See the class."""
        image = shift_hsv(
            in_memory_order(results['img']).astype(np.float32, copy=False),
            np.random.uniform(-self.hue, self.hue),
            scale_or_inverse(self.saturation),
            scale_or_inverse(self.exposure),
        )
        results['img'] = by_planes(image)
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(hue={self.hue}, saturation={self.saturation}, '
            f'exposure={self.exposure})'
        )
