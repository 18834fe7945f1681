"""Drawing of predictions on images of any size: boxes, labels, keypoints and tracks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.structures import InstanceData
from numpy.typing import NDArray

from mmdet_losses.visualization.skeletons import draw_skeleton
from mmdet_losses.visualization.tracks import Point, draw_tracks, identity_colour

Image = NDArray[np.uint8]
MIN_SIDE = 480
"""Smaller images are enlarged, so that labels are readable."""
FONT = cv2.FONT_HERSHEY_SIMPLEX


def enlargement(size: tuple[int, int]) -> int:
    """Whole factor that makes the longer side of an image at least :data:`MIN_SIDE`."""
    return max(1, math.ceil(MIN_SIDE / max(size)))


def draw_predictions(
    image: Image,
    predictions: InstanceData,
    meta: dict[str, Any],
    trails: dict[int, list[Point]] | None = None,
) -> Image:
    """Copy of an image with the predictions, enlarged if it is small.

    Args:
        image: (h, w, 3) BGR.
        predictions: ``bboxes`` (n, 4) xyxy in its pixels, ``labels``, ``scores``; ``keypoints``
            (n, K, 2) are drawn as skeletons, ``instances_id`` as tracks.
        meta: ``classes`` of the data set, and ``skeleton`` and ``flip_pairs`` for keypoints.
        trails: Identity -> earlier centres of tracks; the current centres are appended.
    """
    factor = enlargement(image.shape[:2])
    if 'instances_id' in predictions:
        identities = predictions.instances_id.tolist()
        return draw_tracks(image, predictions.bboxes, identities, trails, factor)
    drawn = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    if 'keypoints' in predictions:
        _draw_keypoints(drawn, predictions, meta, factor)
    classes: Sequence[str] = meta['classes']
    boxes = predictions.bboxes.numpy() * factor
    order = np.argsort(predictions.scores.numpy())  # the best labels are drawn last
    for box, label, score in zip(
        boxes[order],
        predictions.labels.numpy()[order],
        predictions.scores.numpy()[order],
        strict=True,
    ):
        name = classes[label] if label < len(classes) else str(label)
        _draw_box(drawn, box, f'{name} {score:.2f}', identity_colour(int(label) + 1))
    return drawn


def _draw_box(image: Image, box: NDArray, text: str, colour: tuple[int, int, int]) -> None:
    """Draw a box and its label; the label stays inside the image."""
    height, width = image.shape[:2]
    scale = max(0.45, max(height, width) / 1600)
    thickness = max(1, round(2 * scale))
    x1, y1, x2, y2 = (round(float(value)) for value in box)
    cv2.rectangle(image, (x1, y1), (max(x2 - 1, x1), max(y2 - 1, y1)), colour, thickness)
    line = max(1, thickness - 1)
    (text_width, text_height), below = cv2.getTextSize(text, FONT, scale, line)
    full_height = text_height + below + 2
    left = min(max(x1, 0), max(width - text_width - 2, 0))
    top = y1 - full_height if y1 >= full_height else min(y1, height - full_height)
    corners = (left, top), (left + text_width + 2, top + full_height)
    cv2.rectangle(image, *corners, colour, cv2.FILLED)
    ink = (0, 0, 0) if np.dot(colour, (0.114, 0.587, 0.299)) > 127 else (255, 255, 255)
    place = left + 1, top + text_height + 1
    cv2.putText(image, text, place, FONT, scale, ink, line, cv2.LINE_AA)


def _draw_keypoints(
    image: Image, predictions: InstanceData, meta: dict[str, Any], factor: int
) -> None:
    """Draw skeletons, in place; keypoints outside the image are left out."""
    limits = np.array(image.shape[1::-1]) / factor
    points = predictions.keypoints.numpy()
    shown = ((points >= 0) & (points < limits)).all(-1)
    if 'keypoint_scores' in predictions:
        shown &= predictions.keypoint_scores.numpy() >= 0.1
    rgb = np.ascontiguousarray(image[..., ::-1])
    pairs = meta.get('skeleton', ()), meta.get('flip_pairs', ())
    width = max(2, round(max(image.shape) / 400))  # stays visible on a large image
    for keypoints, visible in zip(points * factor, shown, strict=True):
        draw_skeleton(rgb, keypoints, visible, *pairs, width, radius=width)
    image[:] = rgb[..., ::-1]


class VideoFile:
    """Video file that is written frame by frame; the first frame decides the size.

    Args:
        path: ``.mp4`` or ``.avi``.
        fps: Frames per second.

    Raises:
        OSError: OpenCV cannot write this format.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self.fps = path, fps
        self._writer: cv2.VideoWriter | None = None

    def write(self, image: Image) -> None:
        """Append a frame."""
        if self._writer is None:
            code = 'mp4v' if self.path.suffix.lower() == '.mp4' else 'MJPG'
            size = image.shape[1::-1]
            fourcc = cv2.VideoWriter.fourcc(*code)
            self._writer = cv2.VideoWriter(str(self.path), fourcc, self.fps, size)
            if not self._writer.isOpened():
                raise OSError(f'OpenCV cannot write the video {self.path} on this machine.')
        self._writer.write(image)

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()
