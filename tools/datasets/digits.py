"""Detection data set of handwritten digits on real textures, in COCO format.

The glyphs are scikit-learn's 1,797 handwritten digits (8 x 8 pixels), the textures are images of
scikit-image. The splits share neither a glyph nor a part of a texture.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.datasets import folder
from tools.datasets.command_line import check_options
from tools.datasets.drawing import (
    LUMA,
    SPLITS,
    Image,
    background,
    contrasting_color,
    load_textures,
    overlap,
)
from tools.datasets.optional import packages_of

RECIPE = 2  # raise it when the same parameters give other images
CLASSES = tuple('0123456789')
VISIBLE = 0.3  # least alpha of a visible pixel of a glyph
MIN_CONTRAST = 70  # between a digit and the mean of its background, in grey levels of 255


@dataclass(frozen=True)
class Options:
    """Options of the data set; equal options give equal files.

    Attributes:
        train, val: Number of images.
        size: (h, w) of an image in pixels.
        objects: Least and greatest number of digits in an image that has any.
        scale: Least and greatest height of a digit in pixels. Its box is the extent of the visible
            pixels.
        empty_fraction: Fraction of the images without a digit.
        max_overlap: Greatest intersection of two boxes, as a fraction of the smaller one. 0.3 keeps
            every IoU below 0.18.
        seed: Seed of all random numbers. Image ``i`` does not depend on the number of images.
    """

    train: int = 3000
    val: int = 300
    size: tuple[int, int] = (160, 160)
    objects: tuple[int, int] = (1, 8)
    scale: tuple[int, int] = (24, 64)
    empty_fraction: float = 0.02
    max_overlap: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        checks = {
            f'train={self.train} and val={self.val}: give at least one image each': (
                min(self.train, self.val) >= 1
            ),
            f'size={self.size}: give a height and a width of at least 16 pixels': (
                min(self.size) >= 16
            ),
            f'objects={self.objects}: give two numbers, 1 <= MIN <= MAX': (
                1 <= self.objects[0] <= self.objects[1]
            ),
            f'scale={self.scale}: give pixels, 8 <= MIN <= MAX <= the shorter side '
            f'({min(self.size)})': 8 <= self.scale[0] <= self.scale[1] <= min(self.size),
            f'empty_fraction={self.empty_fraction}: give a fraction from 0 to 1': (
                0 <= self.empty_fraction <= 1
            ),
            f'max_overlap={self.max_overlap}: give a fraction from 0 to 1': (
                0 <= self.max_overlap <= 1
            ),
            f'seed={self.seed}: give a whole number, 0 or more': self.seed >= 0,
        }
        check_options('make_digits', checks)


def make_digits(out: str | Path, **options: Any) -> Path:
    """Make the data set, or find that it is already made.

    Writes ``train/`` and ``val/`` (JPEG), ``annotations/train.json`` and ``annotations/val.json``
    (COCO: xywh boxes in pixels, categories '0' to '9' with ids 1 to 10), ``parameters.json``, and
    ``sheet.png`` with examples. The folder exists only when it is complete.

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
        glyphs, textures = load_glyphs(), load_textures()
        for split in SPLITS:
            folder.write_split(
                root,
                split,
                wanted,
                partial(_annotated, options=wanted, glyphs=glyphs[split], textures=textures[split]),
                'Handwritten digits on CC0 and public-domain textures',
                [{'id': i, 'name': name} for i, name in enumerate(CLASSES, 1)],
            )
        write_sheet(root)

    return folder.make_once(out, 'a digits data set', {'recipe': RECIPE, **asdict(wanted)}, fill)


def load_glyphs() -> dict[str, list[tuple[int, NDArray[np.float32]]]]:
    """Split -> (digit, ink) pairs; ink is (10, 10) from 0 to 1, with an empty border of one pixel.

    Every sixth glyph belongs to the validation split, for any seed. So a detector can be validated
    with another seed than it was trained with.
    """
    with packages_of('demo'):
        from sklearn.datasets import load_digits

    digits = load_digits()
    ink = np.pad(digits.images / 16, ((0, 0), (1, 1), (1, 1))).astype(np.float32)
    pairs = list(zip(digits.target.tolist(), ink, strict=True))
    val = pairs[5::6]
    return {'train': [pair for i, pair in enumerate(pairs) if i % 6 != 5], 'val': val}


def draw_image(
    rng: np.random.Generator,
    options: Options,
    glyphs: list[tuple[int, NDArray[np.float32]]],
    textures: list[Image],
) -> tuple[Image, list[tuple[int, list[float]]]]:
    """An image (h, w, 3), and its (digit, [x, y, w, h]) pairs."""
    image = background(rng, options.size, textures)
    objects: list[tuple[int, list[float]]] = []
    if rng.random() < options.empty_fraction:
        return image, objects
    for _ in range(rng.integers(*options.objects, endpoint=True)):
        digit, ink = glyphs[rng.integers(len(glyphs))]
        alpha = glyph_alpha(ink, int(rng.integers(*options.scale, endpoint=True)))
        for _ in range(20):  # after 20 places that overlap too much, the digit is left out
            y, x = (int(rng.integers(n - s + 1)) for n, s in zip(options.size, alpha.shape))
            box = [float(v) for v in (x, y, *alpha.shape[::-1])]
            if all(overlap(box, other) <= options.max_overlap for _, other in objects):
                _paste(rng, image[y : y + alpha.shape[0], x : x + alpha.shape[1]], alpha)
                objects.append((digit, box))
                break
    return image, objects


def write_sheet(root: Path) -> None:
    """Draw the first images with their boxes and labels into ``sheet.png``."""
    folder.write_sheet(root, _draw_box)


def _annotated(
    rng: np.random.Generator,
    options: Options,
    glyphs: list[tuple[int, NDArray[np.float32]]],
    textures: list[Image],
) -> tuple[Image, list[dict[str, Any]]]:
    """An image and its COCO annotations."""
    image, objects = draw_image(rng, options, glyphs, textures)
    return image, [
        {'category_id': digit + 1, 'bbox': box, 'area': box[2] * box[3]} for digit, box in objects
    ]


def glyph_alpha(ink: NDArray[np.float32], height: int) -> NDArray[np.float32]:
    """Opacity (h, w) of a glyph of this height in pixels, cropped to its visible pixels."""
    side = round(height * ink.shape[0] / (ink.shape[0] - 2))  # with the empty border
    smooth = cv2.resize(ink, (side, side), interpolation=cv2.INTER_CUBIC)
    alpha = np.clip((smooth / smooth.max() - 0.15) / 0.4, 0, 1)
    ys, xs = np.nonzero(alpha >= VISIBLE)
    return alpha[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]


def _paste(rng: np.random.Generator, patch: Image, alpha: NDArray[np.float32]) -> None:
    """Blend a glyph into ``patch``, a view of the image, in a colour that is visible on it."""
    level = float((patch * alpha[..., None]).sum((0, 1)) @ LUMA / alpha.sum())
    color = contrasting_color(rng, level, MIN_CONTRAST)
    blend = patch + alpha[..., None] * (color - patch.astype(np.float32))
    patch[:] = np.round(blend).astype(np.uint8)


def _draw_box(image: Image, annotation: dict[str, Any], factor: int) -> None:
    x, y, w, h = (int(v * factor) for v in annotation['bbox'])
    cv2.rectangle(image, (x, y), (x + w - 1, y + h - 1), (0, 255, 255), 1)
    place, font = (x, max(y - 3, 12)), cv2.FONT_HERSHEY_SIMPLEX
    digit = str(annotation['category_id'] - 1)
    for color, thickness in (((0, 0, 0), 3), ((0, 255, 255), 1)):
        cv2.putText(image, digit, place, font, 0.5, color, thickness, cv2.LINE_AA)
