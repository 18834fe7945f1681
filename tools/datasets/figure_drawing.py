"""Drawing of stick figures: a random pose with 17 keypoints, and its image.

Lengths are fractions of the figure's standing height, angles are radians. The left side of a figure
that faces the viewer is on the viewer's right.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.datasets.drawing import LUMA, contrasting_color

KEYPOINTS = (
    'nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear', 'left_shoulder', 'right_shoulder',
    'left_elbow', 'right_elbow', 'left_wrist', 'right_wrist', 'left_hip', 'right_hip',
    'left_knee', 'right_knee', 'left_ankle', 'right_ankle',
)  # fmt: skip
BONES = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
    (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip
FACE = (0, 1, 2)
SKINS = np.array([[180, 205, 240], [140, 180, 225], [95, 140, 195], [60, 95, 145], [40, 60, 95]])
OVERSAMPLING = 3  # figures are drawn at three times the size, and reduced
MIN_CONTRAST = 45  # between clothes and the mean of their background, in grey levels of 255


class Pose(NamedTuple):
    """A figure of height 1 with the origin between the hips; x to the viewer's right, y down."""

    keypoints: NDArray[np.float64]
    """(17, 2)."""
    tilt: float
    """Angle of the head's axis from the vertical."""
    facing: bool
    """Whether the face is visible; if not, the figure's left is the viewer's left."""


class Looks(NamedTuple):
    """Colours (3,) of a figure, BGR, and the width of its limbs relative to the average."""

    skin: NDArray
    hair: NDArray
    shirt: NDArray
    sleeves: NDArray
    trousers: NDArray
    shoes: NDArray
    width: float


class Layer(NamedTuple):
    """A drawn figure in an image of full size."""

    color: NDArray[np.float32]
    """(h, w, 3) BGR."""
    alpha: NDArray[np.float32]
    """(h, w) from 0 to 1."""


def draw_pose(rng: np.random.Generator) -> Pose:
    """Random pose: a leaning torso, arms that mostly hang, legs that stand or walk."""
    facing = bool(rng.random() < 0.85)
    lean, head_tilt = rng.normal(0, 0.16), rng.normal(0, 0.15)
    torso, shoulder, hip = rng.uniform(0.27, 0.31), rng.uniform(0.10, 0.13), rng.uniform(0.06, 0.08)
    up, across = _rotate((0, -1), lean), _rotate((1, 0), lean)
    points = np.zeros((17, 2))
    neck = torso * up
    for k, side in enumerate((1, -1) if facing else (-1, 1)):  # left, right; 1: viewer's right
        points[11 + k] = side * hip * across
        points[5 + k] = neck + side * shoulder * across
        out = np.clip(rng.normal(0.5, 0.6), 0.05, 2.5) * side  # of the upper arm, from hanging
        bend = np.clip(rng.normal(0.4, 0.5), -0.2, 1.8) * side
        points[7 + k] = points[5 + k] + 0.16 * _rotate((0, 1), lean - out)
        points[9 + k] = points[7 + k] + 0.15 * _rotate((0, 1), lean - out - bend)
        stride = np.clip(rng.normal(0.2, 0.25), -0.1, 0.9) * side
        knee = np.clip(rng.normal(-0.15, 0.25), -0.9, 0.2) * side
        points[13 + k] = points[11 + k] + 0.23 * _rotate((0, 1), lean / 2 - stride)
        points[15 + k] = points[13 + k] + 0.22 * _rotate((0, 1), lean / 2 - stride - knee)
    tilt = lean + head_tilt
    up, across = _rotate((0, -1), tilt), _rotate((1, 0), tilt)
    head = neck + 0.125 * up
    turn = rng.uniform(-0.35, 0.35) if facing else 0.0  # of the face, sideways
    points[0] = head + 0.085 * (0.6 * turn * across - 0.1 * up)
    for k, side in enumerate((1, -1) if facing else (-1, 1)):
        points[1 + k] = head + 0.085 * ((0.42 * side + 0.5 * turn) * across + 0.25 * up)
        points[3 + k] = head + 0.085 * ((0.95 * side + 0.1 * turn) * across + 0.05 * up)
    return Pose(points, tilt, facing)


def draw_looks(rng: np.random.Generator, background_level: float) -> Looks:
    """Random colours; clothes are visible on a background of this grey level."""
    skin = SKINS[rng.integers(len(SKINS))] + rng.integers(-12, 13, 3)
    shirt, trousers = (
        contrasting_color(rng, background_level, MIN_CONTRAST).astype(float) for _ in range(2)
    )
    bare = rng.random() < 0.4
    sleeves = skin if bare else shirt * rng.uniform(0.6, 0.8)
    hair = rng.integers(10, 110) * np.array([0.5, 0.75, 1.0])
    return Looks(
        skin, hair, shirt, sleeves, trousers, rng.integers(0, 90, 3), rng.uniform(0.85, 1.2)
    )


def draw_figure(
    pose: Pose, looks: Looks, points: NDArray[np.float64], height: float, size: tuple[int, int]
) -> Layer:
    """Draw a figure.

    Args:
        points: (17, 2) keypoints in image pixels.
        height: Height of the standing figure in pixels.
        size: (h, w) of the image.
    """
    brush = _Brush(size, height)
    scale = looks.width

    def limb(a: int, b: int, width: float, color: NDArray) -> None:
        brush.line(points[a], points[b], width * scale, color)

    for k in (0, 1):
        limb(13 + k, 15 + k, 0.062, looks.trousers * (0.92 if k else 1))
        limb(11 + k, 13 + k, 0.085, looks.trousers * (0.92 if k else 1))
        brush.disc(points[15 + k], 0.042, looks.shoes)
    brush.polygon(points[[5, 6, 12, 11]], 0.06 * scale, looks.shirt)
    neck, head = points[5:7].mean(0), points[3:5].mean(0)
    brush.line(neck, head, 0.05, looks.skin)
    for k in (0, 1):
        limb(5 + k, 7 + k, 0.06, looks.sleeves)
        limb(7 + k, 9 + k, 0.05, looks.sleeves)
        brush.disc(points[9 + k], 0.032, looks.skin)
    if pose.facing:
        brush.ellipse(head - 0.02 * height * _rotate((0, 1), pose.tilt), pose.tilt, looks.hair, 1.1)
        brush.ellipse(head, pose.tilt, looks.skin, 1.0)
        dark, lips = np.array([20, 20, 20]), looks.skin * np.array([0.55, 0.55, 0.8])
        for k in (1, 2):
            brush.disc(points[k], 0.018, np.array([245, 245, 245]))
            brush.disc(points[k], 0.011, dark)
        brush.disc(points[0], 0.014, lips)
    else:  # a rucksack shows that this is the figure's back
        middle = points[[5, 6, 12, 11]].mean(0)
        sack = np.full(3, 25.0 if looks.shirt @ LUMA > 110 else 225.0)
        brush.polygon(middle + 0.5 * (points[[5, 6, 12, 11]] - middle), 0.05, sack)
        brush.ellipse(head, pose.tilt, looks.hair, 1.08)
    for k in (3, 4):
        brush.disc(points[k], 0.022, looks.skin * 0.9)
    return brush.layer()


class _Brush:
    """Draws shapes; positions are in image pixels, widths are fractions of the figure's height."""

    def __init__(self, size: tuple[int, int], height: float) -> None:
        self.size, self.height = size, height
        shape = (size[0] * OVERSAMPLING, size[1] * OVERSAMPLING)
        self.color = np.zeros((*shape, 3), np.uint8)
        self.mask = np.zeros(shape, np.uint8)

    def _place(self, point: NDArray[np.float64]) -> tuple[int, int]:
        x, y = np.round((point + 0.5) * OVERSAMPLING - 0.5).astype(int)
        return int(x), int(y)

    def _width(self, width: float) -> int:
        return max(1, round(width * self.height * OVERSAMPLING))

    def _on_both(self, color: NDArray) -> list[tuple[NDArray, tuple]]:
        shade = tuple(float(c) for c in np.clip(color, 0, 255))
        return [(self.color, shade), (self.mask, (255,))]

    def line(self, a: NDArray, b: NDArray, width: float, color: NDArray) -> None:
        for canvas, shade in self._on_both(color):
            cv2.line(canvas, self._place(a), self._place(b), shade, self._width(width))

    def disc(self, center: NDArray, radius: float, color: NDArray) -> None:
        for canvas, shade in self._on_both(color):
            cv2.circle(canvas, self._place(center), self._width(radius), shade, cv2.FILLED)

    def ellipse(self, center: NDArray, tilt: float, color: NDArray, scale: float) -> None:
        axes = self._width(0.078 * scale), self._width(0.095 * scale)
        for canvas, shade in self._on_both(color):
            cv2.ellipse(
                canvas, self._place(center), axes, np.degrees(tilt), 0, 360, shade, cv2.FILLED
            )

    def polygon(self, corners: NDArray, border: float, color: NDArray) -> None:
        places = np.array([self._place(each) for each in corners], np.int32)
        for canvas, shade in self._on_both(color):
            cv2.fillPoly(canvas, [places], shade)
            cv2.polylines(canvas, [places], True, shade, self._width(border))

    def layer(self) -> Layer:
        """The figure at image size; the colour of a pixel is that of its covered part."""
        size = self.size[::-1]
        alpha = cv2.resize(self.mask, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        mean = cv2.resize(self.color, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        return Layer(mean / np.maximum(alpha, 1e-3)[..., None], alpha)


def _rotate(vector: tuple[float, float], angle: float) -> NDArray[np.float64]:
    """Rotate a vector clockwise on the screen (y down)."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]]) @ vector
