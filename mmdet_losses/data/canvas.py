"""Test input of the corner detectors: the image in the middle of a black canvas."""

from __future__ import annotations

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmdet_losses.ops import crop_window
from mmdet_losses.registry import TRANSFORMS


@TRANSFORMS.register_module()
class CornerCanvas(BaseTransform):
    r"""Resize by a factor and centre on a canvas of (h | pad, w | pad) pixels.

    This is the test geometry of CornerNet, CornerNet-Squeeze and CenterNet triplets. At scale 1,
    MMDetection's ``RandomCenterCropPad`` in test mode makes the same canvas. This transform also
    resizes as the official tests do (sides are truncated, ``Resize`` rounds them), accepts images
    of any dtype, and stores what is needed to map boxes back.

    Required keys: ``img``. Modified keys: ``img``, ``img_shape``. Added keys: ``scale_factor``
    (w, h), ``border`` (top, bottom, left, right of the image in the canvas) and ``resized_shape``
    (h, w); list them in the ``meta_keys`` of ``PackDetInputs``. Place it before ``RandomFlip``.

    Convention:
        Half sizes are ``size // 2`` on both sides. Where the image fills an odd canvas, its last
        row or column is lost, as in the official code.

    Args:
        scale: factor on the original size; sides are truncated.
        pad: sides of the canvas are ``side | pad``.
    """

    def __init__(self, scale: float = 1.0, pad: int = 127) -> None:
        self.scale, self.pad = scale, pad

    def transform(self, results: dict) -> dict:
        """See the class."""
        image = results['img']
        height, width = (int(side * self.scale) for side in image.shape[:2])
        if (height, width) != image.shape[:2]:
            image = cv2.resize(image, (width, height))
        canvas = np.zeros((height | self.pad, width | self.pad, *image.shape[2:]), image.dtype)
        window = crop_window((width // 2, height // 2), canvas.shape[:2], (height, width))
        x1, y1, x2, y2 = window.filled
        left, top = window.offset
        canvas[y1:y2, x1:x2] = image[y1 + top : y2 + top, x1 + left : x2 + left]
        results.update(
            img=canvas,
            img_shape=canvas.shape[:2],
            scale_factor=(self.scale, self.scale),
            border=(y1, y2, x1, x2),
            resized_shape=(height, width),
        )
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(scale={self.scale}, pad={self.pad})'
