"""Pose data set of stick figures on real textures, in COCO's keypoint format.

The figures have COCO's 17 keypoints, random poses, sizes and colours. They face the viewer or turn
away, and are partly hidden by each other, by patches of texture and by the image border. The splits
share no part of a texture.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.datasets.command_line import check_options
from tools.datasets.drawing import LUMA, SPLITS, Image, background, load_textures, overlap
from tools.datasets.figure_drawing import BONES, FACE, KEYPOINTS, draw_figure, draw_looks, draw_pose
from tools.datasets.folder import make_once, write_sheet, write_split

RECIPE = 3  # raise it when the same parameters give other images
CATEGORY = {
    'id': 1,
    'name': 'person',
    'keypoints': KEYPOINTS,
    'skeleton': [[a + 1, b + 1] for a, b in BONES],
}
MARGIN = 0.08  # of a figure around its keypoints, as a fraction of its height
OUTSIDE = 0.12  # greatest fraction of a figure's extent outside the image
PATCH = 10**6  # owner of the pixels that a patch of texture hides


@dataclass(frozen=True)
class Options:
    """Options of the data set; equal options give equal files.

    Attributes:
        train, val: Number of images.
        size: (h, w) of an image in pixels.
        objects: Least and greatest number of figures in an image that has any.
        scale: Least and greatest height of a standing figure in pixels.
        empty_fraction: Fraction of the images without a figure.
        max_overlap: Greatest intersection of two figures' extents, as a fraction of the smaller
            one.
        hidden_fraction: Fraction of the figures that a patch of texture hides in part.
        seed: Seed of all random numbers. Image ``i`` does not depend on the number of images.
    """

    train: int = 3000
    val: int = 300
    size: tuple[int, int] = (160, 160)
    objects: tuple[int, int] = (1, 3)
    scale: tuple[int, int] = (80, 150)
    empty_fraction: float = 0.02
    max_overlap: float = 0.25
    hidden_fraction: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        fractions = ('empty_fraction', 'max_overlap', 'hidden_fraction')
        checks = {
            f'train={self.train} and val={self.val}: give at least one image each': (
                min(self.train, self.val) >= 1
            ),
            f'size={self.size}: give a height and a width of at least 32 pixels': (
                min(self.size) >= 32
            ),
            f'objects={self.objects}: give two numbers, 1 <= MIN <= MAX': (
                1 <= self.objects[0] <= self.objects[1]
            ),
            f'scale={self.scale}: give pixels, 20 <= MIN <= MAX <= the shorter side '
            f'({min(self.size)})': 20 <= self.scale[0] <= self.scale[1] <= min(self.size),
            **{
                f'{name}={getattr(self, name)}: give a fraction from 0 to 1': (
                    0 <= getattr(self, name) <= 1
                )
                for name in fractions
            },
            f'seed={self.seed}: give a whole number, 0 or more': self.seed >= 0,
        }
        check_options('make_figures', checks)


def make_figures(out: str | Path, **options: Any) -> Path:
    """Make the data set, or find that it is already made.

    Writes ``train/`` and ``val/`` (JPEG), ``annotations/train.json`` and ``annotations/val.json``
    (COCO keypoints: one category, 'person'; boxes and areas of the visible part of a figure),
    ``parameters.json``, and ``sheet.png`` with examples. The folder exists only when it is
    complete.

    Args:
        out: Folder of the data set.
        **options: Fields of :class:`Options`.

    Returns:
        ``out`` as a path.

    Raises:
        ValueError: An option is out of its range.
        FileExistsError: ``out`` holds something else, or was made with other options.
    """
    wanted = Options(**options)

    def fill(root: Path) -> None:
        textures = load_textures()
        for split in SPLITS:
            draw = partial(draw_image, options=wanted, textures=textures[split])
            words = 'Stick figures on CC0 and public-domain textures'
            write_split(root, split, wanted, draw, words, [CATEGORY])
        write_sheet(root, _draw_skeleton)

    return make_once(out, 'a figures data set', {'recipe': RECIPE, **asdict(wanted)}, fill)


def draw_image(
    rng: np.random.Generator, options: Options, textures: list[Image]
) -> tuple[Image, list[dict[str, Any]]]:
    """An image (h, w, 3), and its annotations without ids."""
    image = background(rng, options.size, textures)
    owner = np.full(options.size, -1)  # figure that each pixel shows
    extents: list[list[float]] = []
    figures: list[tuple[NDArray[np.float64], bool]] = []
    if rng.random() < options.empty_fraction:
        return image, []
    for _ in range(rng.integers(*options.objects, endpoint=True)):
        pose, height = draw_pose(rng), float(rng.uniform(*options.scale))
        for _ in range(20):  # after 20 places that overlap too much, the figure is left out
            points = _place(rng, pose.keypoints * height, MARGIN * height, options.size)
            extent = _extent(points, MARGIN * height)
            if all(overlap(extent, other) <= options.max_overlap for other in extents):
                level = float(image[_window(extent, options.size)].mean((0, 1)) @ LUMA)
                layer = draw_figure(pose, draw_looks(rng, level), points, height, options.size)
                alpha = layer.alpha[..., None]
                image = np.round(image + alpha * (layer.color - image)).astype(np.uint8)
                owner[layer.alpha >= 0.5] = len(figures)
                extents.append(extent)
                figures.append((points, pose.facing))
                if rng.random() < options.hidden_fraction:
                    _hide(rng, image, owner, points, height, textures)
                break
    annotations = [_annotation(owner, i, *figure) for i, figure in enumerate(figures)]
    return image, [each for each in annotations if each is not None]


def _place(
    rng: np.random.Generator, points: NDArray[np.float64], margin: float, size: tuple[int, int]
) -> NDArray[np.float64]:
    """Keypoints (17, 2) moved to a random place that is mostly inside the image."""
    low, high = points.min(0) - margin, points.max(0) + margin
    slack = OUTSIDE * (high - low)
    first, last = -low - slack, np.array(size[::-1]) - high + slack
    return points + rng.uniform(np.minimum(first, last), np.maximum(first, last))


def _extent(points: NDArray[np.float64], margin: float) -> list[float]:
    low, high = points.min(0) - margin, points.max(0) + margin
    return [*low.tolist(), *(high - low).tolist()]


def _window(box: list[float], size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of an xywh box within an image; at least one pixel."""
    x, y, w, h = box
    spans = []
    for start, length, side in ((y, h, size[0]), (x, w, size[1])):
        low = min(max(int(start), 0), side - 1)
        spans.append(slice(low, max(low + 1, min(round(start + length), side))))
    return spans[0], spans[1]


def _hide(
    rng: np.random.Generator,
    image: Image,
    owner: NDArray[np.int64],
    points: NDArray[np.float64],
    height: float,
    textures: list[Image],
) -> None:
    """Cover a keypoint of the last figure with a patch of texture."""
    sides = height * rng.uniform(0.12, 0.25, 2)
    corner = points[rng.integers(5, len(points))] - sides * rng.uniform(0.3, 0.7, 2)
    window = _window([*corner.tolist(), *sides.tolist()], owner.shape)
    patch = background(rng, owner.shape, textures)
    image[window] = patch[window]
    owner[window] = PATCH


def _annotation(
    owner: NDArray[np.int64], number: int, points: NDArray[np.float64], facing: bool
) -> dict[str, Any] | None:
    """COCO annotation of a figure; ``None`` if the figure is fully hidden."""
    ys, xs = np.nonzero(owner == number)
    if not len(xs):
        return None
    values: list[float] = []
    for keypoint, (x, y) in enumerate(points.tolist()):
        column, row = round(x), round(y)
        inside = 0 <= column < owner.shape[1] and 0 <= row < owner.shape[0]
        if not inside or (keypoint in FACE and not facing):
            values += [0, 0, 0]
        else:
            values += [round(x, 2), round(y, 2), 1 if owner[row, column] > number else 2]
    x, y = int(xs.min()), int(ys.min())
    return {
        'category_id': 1,
        'bbox': [x, y, int(xs.max()) + 1 - x, int(ys.max()) + 1 - y],
        'area': len(xs),
        'num_keypoints': sum(flag > 0 for flag in values[2::3]),
        'keypoints': values,
    }


def _draw_skeleton(image: Image, annotation: dict[str, Any], factor: int) -> None:
    """Draw box and skeleton; hidden keypoints are rings."""
    x, y, w, h = (v * factor for v in annotation['bbox'])
    cv2.rectangle(image, (x, y), (x + w - 1, y + h - 1), (0, 255, 255), 1)
    points = np.array(annotation['keypoints']).reshape(-1, 3)
    places = np.round((points[:, :2] + 0.5) * factor - 0.5).astype(int).tolist()
    for a, b in BONES:
        if points[a, 2] and points[b, 2]:
            cv2.line(image, places[a], places[b], (255, 255, 255), 1, cv2.LINE_AA)
    for name, place, flag in zip(KEYPOINTS, places, points[:, 2], strict=True):
        color = (115, 158, 0) if name.startswith('left') else (0, 94, 213)
        if flag:
            cv2.circle(image, place, 3, color, -1 if flag == 2 else 1, cv2.LINE_AA)
