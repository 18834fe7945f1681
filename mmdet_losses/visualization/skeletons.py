"""Skeletons in MMDetection's pictures of results."""

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

# RGB, Okabe and Ito's colours: told apart by colour-blind readers too
LEFT, RIGHT, MIDDLE = (0, 158, 115), (213, 94, 0), (240, 228, 66)


@VISUALIZERS.register_module()
class KeypointVisualizer(DetLocalVisualizer):
    """MMDetection's ``DetLocalVisualizer`` that also draws joints, bones and inverted boxes.

    Boxes (n, 4) xyxy of negative size, which a centre detector may predict and MMEngine refuses to
    draw, are drawn with sorted corners. Of instances with ``keypoints`` (n, J, 2) the truth's
    ``keypoints_visible`` and the predictions' ``keypoint_scores`` (n, J) say which joints are
    drawn. Bones are ``skeleton`` of the data set's metainfo; the person's left side is green, the
    right one orange.

    Args:
        name: of the instance, as MMEngine's manager needs it.
        keypoint_score_thr: a predicted joint is drawn from this score on.
        bone_width: of the lines, in pixels.
        joint_radius: of the dots, in pixels.
        **kwargs: of ``DetLocalVisualizer``.
    """

    def __init__(
        self,
        name: str = 'visualizer',
        *args: Any,
        keypoint_score_thr: float = 0.1,
        bone_width: int = 2,
        joint_radius: int = 2,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, *args, **kwargs)
        self.keypoint_score_thr = keypoint_score_thr
        self.bone_width, self.joint_radius = bone_width, joint_radius

    def _draw_instances(
        self,
        image: np.ndarray,
        instances: InstanceData,
        classes: list[str] | None,
        palette: list[tuple] | None,
    ) -> np.ndarray:
        """Boxes as ever, then the skeletons."""
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
        for joints, drawn in zip(points, shown, strict=True):
            draw_skeleton(image, joints, drawn, *pairs, self.bone_width, self.joint_radius)
        return image


def _upright(instances: InstanceData) -> InstanceData:
    """The same with sorted corners: a fresh network predicts negative sizes, which mmengine refuses
    to draw."""
    if 'bboxes' not in instances:
        return instances
    one, other = torch.as_tensor(get_box_tensor(instances.bboxes)).split(2, 1)
    copied = InstanceData(**dict(instances.items()))
    copied.bboxes = torch.cat((torch.minimum(one, other), torch.maximum(one, other)), 1)
    return copied


def draw_skeleton(
    image: np.ndarray,
    joints: np.ndarray,
    shown: np.ndarray,
    skeleton: Sequence[tuple[int, int]],
    flip_pairs: Sequence[tuple[int, int]],
    width: int = 2,
    radius: int = 2,
) -> None:
    """Draw the bones and joints of one person into an RGB picture (h, w, 3) uint8, in place.

    Shape:
        joints: (J, 2) in pixels, also far outside; shown: (J,) bool.
    """
    colours = [MIDDLE] * len(joints)
    for left, right in flip_pairs:
        colours[left], colours[right] = LEFT, RIGHT
    reach = 4 * max(image.shape)
    shown = shown & (np.abs(joints) < reach).all(-1)  # false for NaN
    places = [
        (round(float(x)), round(float(y))) if seen else None
        for (x, y), seen in zip(joints, shown, strict=True)
    ]
    for one, other in skeleton:
        if shown[one] and shown[other]:
            colour = colours[one] if colours[one] == colours[other] else MIDDLE
            cv2.line(image, places[one], places[other], colour, width, cv2.LINE_AA)
    for place, colour in zip(places, colours, strict=True):
        if place is not None:
            cv2.circle(image, place, radius, colour, cv2.FILLED, cv2.LINE_AA)
