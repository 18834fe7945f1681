"""CornerNet's random crop with a limited number of tries and at least one object."""

# ruff: noqa: NPY002 (MMEngine seeds the global generator, which MMDetection uses, in workers)
from __future__ import annotations

from typing import Any

import numpy as np
from mmdet.datasets.transforms import RandomCenterCropPad
from numpy import random

from mmdet_losses.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomCenterCropPadMinObjects(RandomCenterCropPad):
    """MMDetection's ``RandomCenterCropPad`` with a limited search for a crop with objects.

    MMDetection draws crops until one contains the centre of a box. This never ends when no crop
    can contain a centre (a small crop with a wide ``border``, a box centred outside the image),
    and a box that is ignored (crowd) is enough. This transform counts only objects that are not
    ignored, and returns the image unchanged after ``max_tries`` crops; a later ``Resize`` gives it
    the size of the others. An image without objects is cropped too.

    Args:
        *args, **kwargs: of ``RandomCenterCropPad``; ``test_mode`` is unchanged.
        min_objects: number of object centres that a crop must contain; all of them where the image
            has fewer objects.
        max_tries: number of crops to draw.

    Raises:
        ValueError: ``min_objects`` or ``max_tries`` is not positive.
    """

    def __init__(
        self, *args: Any, min_objects: int = 1, max_tries: int = 50, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        for name, value in dict(min_objects=min_objects, max_tries=max_tries).items():
            if value < 1:
                raise ValueError(f'{type(self).__name__}: {name} is {value}; give at least 1.')
        self.min_objects, self.max_tries = min_objects, max_tries

    def _train_aug(self, results: dict) -> dict:
        image, boxes = results['img'], results['gt_bboxes']
        height, width = image.shape[:2]
        y_border, x_border = (self._get_border(self.border, side) for side in (height, width))
        learned = ~results.get('gt_ignore_flags', np.zeros(len(boxes), bool))
        needed = min(self.min_objects, int(learned.sum()))
        ratio = random.choice(self.ratios)
        size = int(self.crop_size[1] * ratio), int(self.crop_size[0] * ratio)
        for _ in range(self.max_tries):
            x = random.randint(x_border, width - x_border)
            y = random.randint(y_border, height - y_border)
            crop, _, patch = self._crop_image_and_paste(image, [y, x], size)
            inside = self._filter_boxes(patch, boxes)
            if (inside & learned).sum() >= needed:
                return self._take(results, crop, inside, (x, y))
        return results

    def _take(
        self, results: dict, crop: np.ndarray, inside: np.ndarray, center: tuple[int, int]
    ) -> dict:
        """Store the crop around ``center`` (x, y) and the boxes whose centre is inside."""
        size = crop.shape[:2]
        boxes = results['gt_bboxes'][inside]
        boxes.translate_([size[1] // 2 - center[0], size[0] // 2 - center[1]])
        if self.bbox_clip_border:
            boxes.clip_(size)
        results.update(img=crop, img_shape=size, gt_bboxes=boxes)
        for key in ('gt_ignore_flags', 'gt_bboxes_labels'):
            if results.get(key) is not None:
                results[key] = results[key][inside]
        if 'gt_masks' in results or 'gt_seg_map' in results:
            raise NotImplementedError(
                f'{type(self).__name__} moves boxes but not masks; leave it out.'
            )
        return results

    def __repr__(self) -> str:
        ending = f', min_objects={self.min_objects}, max_tries={self.max_tries})'
        return super().__repr__()[:-1] + ending
