"""Visualizer that draws keypoints and skeletons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.structures.bbox import get_box_tensor
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData

from mmdet_losses.registry import VISUALIZERS

# RGB, Okabe and Ito's colours, which colour-blind readers can distinguish
LEFT, RIGHT, MIDDLE = (0, 158, 115), (213, 94, 0), (240, 228, 66)


@VISUALIZERS.register_module()
class KeypointVisualizer(DetLocalVisualizer):
    """MMDetection's ``DetLocalVisualizer`` that also draws keypoints, bones and inverted boxes.

    Boxes (n, 4) xyxy of negative size are drawn with sorted corners: a centre detector can predict
    them, and MMEngine raises an error. Instances with ``keypoints`` (n, K, 2) get a skeleton. Their
    ``keypoints_visible`` (ground truth) or ``keypoint_scores`` (predictions), both (n, K), select
    the keypoints. Bones are ``skeleton`` of the data set's metainfo; the person's left side is
    green, the right side orange.

    Args:
        name: of the instance in MMEngine's manager.
        keypoint_score_thr: predicted keypoints with a lower score are not drawn.
        bone_width: of the lines, in pixels.
        keypoint_radius: of the dots, in pixels.
        **kwargs: of ``DetLocalVisualizer``.
    """

    def __init__(
        self,
        name: str = 'visualizer',
        *args: Any,
        keypoint_score_thr: float = 0.1,
        bone_width: int = 2,
        keypoint_radius: int = 2,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, *args, **kwargs)
        self.keypoint_score_thr = keypoint_score_thr
        self.bone_width, self.keypoint_radius = bone_width, keypoint_radius

    def _draw_instances(
        self,
        image: np.ndarray,
        instances: InstanceData,
        classes: list[str] | None,
        palette: list[tuple] | None,
    ) -> np.ndarray:
        """Image with boxes and skeletons."""
        image = super()._draw_instances(image, _upright(instances), classes, palette)
        if 'keypoints' not in instances or not len(instances):
            return image
        image = np.array(image)  # matplotlib's may be read-only
        points = np.asarray(instances.keypoints)
        shown = np.ones(points.shape[:2], bool)
        if 'keypoints_visible' in instances:
            shown = np.asarray(instances.keypoints_visible) > 0
        elif 'keypoint_scores' in instances:
            shown = np.asarray(instances.keypoint_scores) >= self.keypoint_score_thr
        pairs = self.dataset_meta.get('skeleton', ()), self.dataset_meta.get('flip_pairs', ())
        for keypoints, drawn in zip(points, shown, strict=True):
            draw_skeleton(image, keypoints, drawn, *pairs, self.bone_width, self.keypoint_radius)
        return image


def _upright(instances: InstanceData) -> InstanceData:
    """Copy with sorted corners: an untrained network predicts negative sizes, and MMEngine raises
    an error for them."""
    if 'bboxes' not in instances:
        return instances
    one, other = torch.as_tensor(get_box_tensor(instances.bboxes)).split(2, 1)
    copied = InstanceData(**dict(instances.items()))
    copied.bboxes = torch.cat((torch.minimum(one, other), torch.maximum(one, other)), 1)
    return copied


def draw_skeleton(
    image: np.ndarray,
    keypoints: np.ndarray,
    shown: np.ndarray,
    skeleton: Sequence[tuple[int, int]],
    flip_pairs: Sequence[tuple[int, int]],
    width: int = 2,
    radius: int = 2,
) -> None:
    """Draw the bones and keypoints of one person into an RGB image (h, w, 3) uint8, in place.

    Shape:
        keypoints: (K, 2) in pixels, possibly far outside; shown: (K,) bool.
    """
    colours = [MIDDLE] * len(keypoints)
    for left, right in flip_pairs:
        colours[left], colours[right] = LEFT, RIGHT
    limit = 4 * max(image.shape)  # OpenCV's coordinates are 32-bit integers
    shown = shown & (np.abs(keypoints) < limit).all(-1)  # false for NaN
    points = [
        (round(float(x)), round(float(y))) if drawn else None
        for (x, y), drawn in zip(keypoints, shown, strict=True)
    ]
    for one, other in skeleton:
        if shown[one] and shown[other]:
            colour = colours[one] if colours[one] == colours[other] else MIDDLE
            cv2.line(image, points[one], points[other], colour, width, cv2.LINE_AA)
    for point, colour in zip(points, colours, strict=True):
        if point is not None:
            cv2.circle(image, point, radius, colour, cv2.FILLED, cv2.LINE_AA)
