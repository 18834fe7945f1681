"""Input geometry of the centre family: one affine map from the image to the network input."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmdet.structures.bbox import BaseBoxes

from mmdet_losses.data.keypoints import settle_keypoints, swap_sides
from mmdet_losses.data.pixels import warped
from mmdet_losses.ops import (
    apply_affine,
    center_affine,
    check_choice,
    compose_affine,
    mirror_affine,
)
from mmdet_losses.registry import TRANSFORMS

Mode = Literal['fix', 'keep']


def draw_motion(shift: float, zoom: float) -> tuple[float, float, float]:
    """A shift in x and y, and a zoom: ``shift`` and ``1 + zoom`` times a normal number.

    They are limited to ``2 * shift`` and ``1 ± zoom``, as in the official code.
    """
    x, y = (min(max(shift * random.gauss(0, 1), -2 * shift), 2 * shift) for _ in range(2))
    return x, y, min(max(1 + zoom * random.gauss(0, 1), 1 - zoom), 1 + zoom)


@TRANSFORMS.register_module()
class CenterAffine(BaseTransform):
    r"""Warp image, boxes and keypoints by one map: image centre to canvas centre, isotropic.

    This is the input geometry of the official CenterNet (objects as points) and CenterTrack.

    Required keys: ``img``; where present also ``gt_bboxes``, ``gt_keypoints`` (n, J, 2) and
    ``gt_keypoints_visible`` (n, J).

    Modified keys: those, ``img_shape``. Added keys: ``scale_factor`` (w, h), ``border`` (top,
    bottom, left, right of the image in the canvas, after mirroring; may be fractional or outside
    the canvas), ``flip``, ``flip_direction`` and ``affine`` (2, 3). Put ``border`` and
    ``scale_factor`` into the ``meta_keys`` of ``PackDetInputs``, so that predictions can be mapped
    back to image pixels: :math:`x_{image} = (x - left) / scale`.

    Convention:
        'fix': the canvas has ``size``. The longer side of the image is scaled to the width of the
        canvas, for any canvas height. 'keep': the image keeps its scale and is centred on a canvas
        of ``(side | 31) + 1`` pixels; a side that is a multiple of 32 therefore grows by 32.
        Boxes are not clipped: the target encoder handles objects outside the canvas.

    Args:
        size: (w, h) of the canvas, mode 'fix'.
        mode: see above.
        pad: the number in ``(side | pad) + 1`` of mode 'keep'; 127 for the official hourglass.
        whole_pixels: in mode 'keep', shift the image by whole pixels. The official test code does
            this; its training code does not.
        scale_range: (low, high, step) of random scales, without the high end. Official training
            uses (0.6, 1.4, 0.1). ``None``: no random scale, and the centre is not moved.
        center_border: minimum distance of the random centre from the image border, with a random
            scale. It is halved until it fits into the image.
        center_jitter, scale_jitter: instead of ``scale_range``, move the centre along both axes by
            ``center_jitter * normal`` times the longer side of the image, limited to twice
            ``center_jitter``, and multiply the scale by ``1 + scale_jitter * normal``, limited to
            ``1 ± scale_jitter``. This is the official ``--not_rand_crop``, with 0.1 and 0.4, for
            data whose objects a random crop cuts off.
        flip_prob: probability of mirroring left to right.
        flip_pairs: pairs of keypoints that are swapped in a mirrored image; ``None``: the pairs of
            the data set (``flip_pairs`` in the results).
        scale: in mode 'keep', resize factor that is applied first, as in the official multi-scale
            test; sides are truncated.

    Raises:
        ValueError: an unknown mode; ``scale_range`` or a jitter with mode 'keep'; ``scale`` with
            mode 'fix'; ``scale_range`` together with a jitter.
    """

    def __init__(
        self,
        size: tuple[int, int] = (512, 512),
        mode: Mode = 'fix',
        pad: int = 31,
        whole_pixels: bool = True,
        scale_range: tuple[float, float, float] | None = None,
        center_border: int = 128,
        center_jitter: float = 0.0,
        scale_jitter: float = 0.0,
        flip_prob: float = 0.0,
        flip_pairs: Sequence[tuple[int, int]] | None = None,
        scale: float = 1.0,
    ) -> None:
        check_choice('mode', mode, ('fix', 'keep'))
        jitter = center_jitter != 0 or scale_jitter != 0
        if mode == 'keep' and (scale_range is not None or jitter):
            raise ValueError(
                "scale_range and jitters need a canvas of fixed size; choose mode='fix'."
            )
        if scale_range is not None and jitter:
            raise ValueError(
                f'scale_range={scale_range} draws the centre itself; set center_jitter and '
                'scale_jitter to 0, or scale_range to None.'
            )
        if mode == 'fix' and scale != 1:
            raise ValueError(f"scale={scale} needs a canvas that grows; choose mode='keep'.")
        self.size, self.mode, self.pad, self.whole_pixels = tuple(size), mode, pad, whole_pixels
        self.scale_range, self.center_border = scale_range, center_border
        self.center_jitter, self.scale_jitter = center_jitter, scale_jitter
        self.flip_prob, self.flip_pairs, self.scale = flip_prob, flip_pairs, scale

    @cache_randomness
    def _draw(self, height: int, width: int) -> tuple[tuple[float, float], float, bool]:
        """Centre in image pixels, factor on the scale, whether to mirror."""
        center, factor = (width / 2, height / 2), 1.0
        if self.scale_range is not None:
            factor = random.choice(np.arange(*self.scale_range).tolist())
            center = self._draw_within(width), self._draw_within(height)
        elif self.center_jitter or self.scale_jitter:
            x, y, factor = draw_motion(self.center_jitter, self.scale_jitter)
            side = max(height, width)
            center = center[0] + x * side, center[1] + y * side
        return center, factor, random.random() < self.flip_prob

    def _draw_within(self, side: int) -> float:
        border = self.center_border
        while side <= 2 * border:
            border //= 2
        return float(random.randrange(border, side - border))

    def geometry(self, height: int, width: int) -> tuple[np.ndarray, tuple[int, int], bool]:
        """(2, 3) map of the image after mirroring, (h, w) of the canvas, whether to mirror."""
        center, factor, flip = self._draw(height, width)
        if flip:
            center = width - 1 - center[0], center[1]
        if self.mode == 'fix':
            canvas = self.size[1], self.size[0]
            matrix = center_affine(center, max(height, width) * factor, canvas)
        else:
            canvas = (height | self.pad) + 1, (width | self.pad) + 1
            if self.whole_pixels:
                center = width // 2, height // 2
            matrix = center_affine(center, canvas[1], canvas)
        return matrix, canvas, flip

    def transform(self, results: dict) -> dict:
        """See the class."""
        height, width = (int(side * self.scale) for side in results['img'].shape[:2])
        if (height, width) != results['img'].shape[:2]:
            results['img'] = cv2.resize(results['img'], (width, height))
        upright, canvas, flip = self.geometry(height, width)
        matrix = compose_affine(upright, mirror_affine(width)) if flip else upright
        results['img'] = warped(results['img'], matrix, (canvas[1], canvas[0]))
        results['img_shape'] = results['img'].shape[:2]
        factor, left, top = (float(upright[i]) for i in ((0, 0), (0, 2), (1, 2)))
        matrix = compose_affine(matrix, np.diag((self.scale, self.scale, 1.0))[:2])
        results['affine'] = matrix
        results['scale_factor'] = (factor * self.scale, factor * self.scale)
        results['border'] = (top, top + factor * height, left, left + factor * width)
        results['flip'] = flip
        results['flip_direction'] = 'horizontal' if flip else None
        self._map_labels(results, matrix, flip)
        return results

    def _map_labels(self, results: dict, matrix: np.ndarray, flip: bool) -> None:
        if 'gt_bboxes' in results:
            boxes = results['gt_bboxes']
            wrapped = isinstance(boxes, BaseBoxes)
            mapped = apply_affine(boxes.tensor if wrapped else boxes, matrix)
            if flip:
                mapped = mapped[..., [2, 1, 0, 3]]
            results['gt_bboxes'] = type(boxes)(mapped) if wrapped else mapped
        if 'gt_keypoints' not in results:
            return
        if 'keypoint_frame' in results:
            settle_keypoints(results)
        results['gt_keypoints'] = apply_affine(results['gt_keypoints'], matrix)
        if flip:
            pairs = results.get('flip_pairs', ()) if self.flip_pairs is None else self.flip_pairs
            swap_sides(results, pairs)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(size={self.size}, mode={self.mode!r}, pad={self.pad}, '
            f'scale={self.scale})'
        )
