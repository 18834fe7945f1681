"""Training input of CornerNet, CornerNet-Squeeze and CenterNet triplets."""
# ruff: noqa: NPY002 (MMEngine seeds the global generator of every worker)

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmdet_losses.data.draws import coin, inside
from mmdet_losses.data.objects import box_array, put_objects
from mmdet_losses.ops import crop_window
from mmdet_losses.registry import TRANSFORMS


@TRANSFORMS.register_module()
class CornerNetCrop(BaseTransform):
    r"""Random square crop, resized to the network's input, perhaps mirrored.

    Sampling rule of the official code:

    1. A factor s of ``scales``, all equally likely. The crop has ``int(s * size)`` pixels of the
       original image per side.
    2. Its centre is a random pixel that keeps ``border`` pixels (halved until it fits) from the
       borders of the image. Outside the image the crop is black.
    3. Boxes are clipped to the last pixel of the input. Those without area are dropped. Nothing
       else is checked: a box that shows one pixel is a full object, and a crop without objects is
       used.
    4. With probability ``flip_prob`` image and boxes are mirrored, x to ``width - 1 - x``.

    :class:`~mmdet_losses.data.crop.RandomCenterCropPadMinObjects` searches a crop with objects.

    Required keys: ``img`` (8 bits as loaded, like the official code), ``gt_bboxes`` and what
    belongs to them. Modified keys: those, ``img_shape``. Added keys: ``flip``, ``flip_direction``.

    Convention:
        Half sizes are ``size // 2`` on both sides: an odd crop leaves its last row and column
        black.

    Args:
        size: (w, h) of the input.
        scales: see above.
        border: see above.
        flip_prob: see above.
    """

    def __init__(
        self,
        size: tuple[int, int] = (511, 511),
        scales: Sequence[float] = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3),
        border: int = 128,
        flip_prob: float = 0.5,
    ) -> None:
        self.size, self.scales = tuple(size), tuple(scales)
        self.border, self.flip_prob = border, flip_prob

    def transform(self, results: dict) -> dict:
        """See the class."""
        image = results['img']
        height, width = image.shape[:2]
        factor = np.random.choice(self.scales)
        sides = [max(int(side * factor), 1) for side in self.size]
        center = inside(width, self.border), inside(height, self.border)
        window = crop_window(center, (sides[1], sides[0]), (height, width))
        crop = np.zeros((sides[1], sides[0], *image.shape[2:]), image.dtype)
        x1, y1, x2, y2 = window.filled
        left, top = window.offset
        crop[y1:y2, x1:x2] = image[y1 + top : y2 + top, x1 + left : x2 + left]
        crop = cv2.resize(crop, self.size, interpolation=cv2.INTER_LINEAR)
        boxes = (box_array(results) - [left, top] * 2) * np.tile(np.divide(self.size, sides), 2)
        last = np.subtract(self.size, 1)
        boxes = boxes.clip(0, np.tile(last, 2))
        flip = coin(self.flip_prob)
        if flip:
            crop = cv2.flip(crop, 1)
            boxes[:, [0, 2]] = last[0] - boxes[:, [2, 0]]
        put_objects(results, boxes, (boxes[:, 2:] > boxes[:, :2]).all(1))
        results.update(
            img=crop,
            img_shape=crop.shape[:2],
            flip=flip,
            flip_direction='horizontal' if flip else None,
        )
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(size={self.size}, scales={self.scales}, '
            f'border={self.border}, flip_prob={self.flip_prob})'
        )
