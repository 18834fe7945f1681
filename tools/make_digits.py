"""Make a detection data set of handwritten digits on real textures, in COCO format, offline.

Glyphs are scikit-learn's 1,797 handwritten digits (8 x 8 pixels), backgrounds the CC0 and
public-domain pictures that ship inside scikit-image. Training and validation share neither a glyph
nor a piece of a texture, and the same seed gives the same bytes.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools import drawn_data
from tools.drawn_data import (
    LUMA,
    SPLITS,
    Picture,
    add_arguments,
    background,
    load_textures,
    make_once,
    overlap,
    read_arguments,
    refuse,
    run,
    write_split,
)

RECIPE = 2  # raise it whenever the same parameters begin to give other pictures
CLASSES = tuple('0123456789')
VISIBLE = 0.3  # alpha from which a pixel of a glyph counts as visible
MIN_CONTRAST = 70  # between a digit and the mean of what it covers, in grey levels of 255


@dataclass(frozen=True)
class Options:
    """What decides the data set; two equal instances give equal bytes.

    Attributes:
        train, val: number of pictures.
        size: (height, width) of a picture in pixels.
        objects: least and greatest number of digits in a picture that has any.
        scale: least and greatest side of a pasted glyph in pixels; the digit is about as tall, and
            its box is drawn tight around what is visible of it.
        empty_fraction: share of the pictures without a digit.
        max_overlap: greatest intersection of two boxes, as a part of the smaller one. 0.3 keeps
            every IoU below 0.18.
        seed: of everything random; picture ``i`` does not depend on how many there are.
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
            f'train={self.train} and val={self.val}: give at least one picture each': (
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
            f'empty_fraction={self.empty_fraction}: give a share from 0 to 1': (
                0 <= self.empty_fraction <= 1
            ),
            f'max_overlap={self.max_overlap}: give a share from 0 to 1': 0 <= self.max_overlap <= 1,
            f'seed={self.seed}: give a whole number from 0 on': self.seed >= 0,
        }
        refuse('make_digits', checks)


def make_digits(out: str | Path, **options: Any) -> Path:
    """Make the data set, or find it already made.

    Writes ``train/``, ``val/`` (JPEG), ``annotations/train.json``, ``annotations/val.json`` (COCO:
    xywh boxes in pixels, categories '0' to '9' with ids 1 to 10), ``parameters.json`` and
    ``sheet.png``, pictures with their boxes. The folder appears only when it is complete.

    Args:
        out: folder to make.
        **options: fields of :class:`Options`.

    Returns:
        ``out`` as a path.

    Raises:
        ValueError: an option out of its range.
        FileExistsError: ``out`` holds anything but this very data set.
    """
    wanted = Options(**options)

    def fill(root: Path) -> None:
        glyphs, textures = load_glyphs(), load_textures()
        for split in SPLITS:
            write_split(
                root,
                split,
                wanted,
                partial(_annotated, options=wanted, glyphs=glyphs[split], textures=textures[split]),
                'Handwritten digits on CC0 and public-domain textures',
                [{'id': i, 'name': name} for i, name in enumerate(CLASSES, 1)],
            )
        write_sheet(root)

    return make_once(out, 'a digits data set', {'recipe': RECIPE, **asdict(wanted)}, fill)


def load_glyphs() -> dict[str, list[tuple[int, NDArray[np.float32]]]]:
    """Per split, (digit, ink) pairs; ink is (10, 10) from 0 to 1, the glyph within an empty rim.

    Every sixth glyph is for validation, whatever the seed: no seed trains on a glyph that another
    seed validates on.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    ink = np.pad(digits.images / 16, ((0, 0), (1, 1), (1, 1))).astype(np.float32)
    pairs = list(zip(digits.target.tolist(), ink, strict=True))
    val = pairs[5::6]
    return {'train': [pair for i, pair in enumerate(pairs) if i % 6 != 5], 'val': val}


def draw_picture(
    rng: np.random.Generator,
    options: Options,
    glyphs: list[tuple[int, NDArray[np.float32]]],
    textures: list[Picture],
) -> tuple[Picture, list[tuple[int, list[float]]]]:
    """One picture (H, W, 3) and its (digit, [x, y, w, h]) pairs."""
    picture = background(rng, options.size, textures)
    objects: list[tuple[int, list[float]]] = []
    if rng.random() < options.empty_fraction:
        return picture, objects
    for _ in range(rng.integers(*options.objects, endpoint=True)):
        digit, ink = glyphs[rng.integers(len(glyphs))]
        alpha = glyph_alpha(ink, int(rng.integers(*options.scale, endpoint=True)))
        for _ in range(20):  # a crowded picture gets fewer digits than drawn
            y, x = (int(rng.integers(n - s + 1)) for n, s in zip(options.size, alpha.shape))
            box = [float(v) for v in (x, y, *alpha.shape[::-1])]
            if all(overlap(box, other) <= options.max_overlap for _, other in objects):
                _paste(rng, picture[y : y + alpha.shape[0], x : x + alpha.shape[1]], alpha)
                objects.append((digit, box))
                break
    return picture, objects


def write_sheet(root: Path) -> None:
    """Draw the first pictures with their boxes and labels."""
    drawn_data.write_sheet(root, _label)


def _annotated(
    rng: np.random.Generator,
    options: Options,
    glyphs: list[tuple[int, NDArray[np.float32]]],
    textures: list[Picture],
) -> tuple[Picture, list[dict[str, Any]]]:
    """A picture and its COCO annotations."""
    picture, objects = draw_picture(rng, options, glyphs, textures)
    return picture, [
        {'category_id': digit + 1, 'bbox': box, 'area': box[2] * box[3]} for digit, box in objects
    ]


def glyph_alpha(ink: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Opacity (h, w) of a glyph ``side`` pixels tall, cropped to what is visible."""
    side = round(side * ink.shape[0] / (ink.shape[0] - 2))  # the rim is not part of the glyph
    smooth = cv2.resize(ink, (side, side), interpolation=cv2.INTER_CUBIC)
    alpha = np.clip((smooth / smooth.max() - 0.15) / 0.4, 0, 1)
    ys, xs = np.nonzero(alpha >= VISIBLE)
    return alpha[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]


def _paste(rng: np.random.Generator, patch: Picture, alpha: NDArray[np.float32]) -> None:
    """Blend a glyph into ``patch`` (a view), in a colour that stands out from what it covers."""
    ground = float((patch * alpha[..., None]).sum((0, 1)) @ LUMA / alpha.sum())
    drawn = rng.integers(0, 256, (64, 3))
    colours = np.vstack([drawn, [[0, 0, 0], [255, 255, 255]]])  # of the last two, one stands out
    colour = colours[np.argmax(np.abs(colours @ LUMA - ground) >= MIN_CONTRAST)]
    blend = patch + alpha[..., None] * (colour - patch.astype(np.float32))
    patch[:] = np.round(blend).astype(np.uint8)


def _label(picture: Picture, note: dict[str, Any], factor: int) -> None:
    x, y, w, h = (int(v * factor) for v in note['bbox'])
    cv2.rectangle(picture, (x, y), (x + w - 1, y + h - 1), (0, 255, 255), 1)
    place, font = (x, max(y - 3, 12)), cv2.FONT_HERSHEY_SIMPLEX
    digit = str(note['category_id'] - 1)
    for colour, thickness in (((0, 0, 0), 3), ((0, 255, 255), 1)):
        cv2.putText(picture, digit, place, font, 0.5, colour, thickness, cv2.LINE_AA)


def parse_args(args: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; its defaults are those of :class:`Options`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add_arguments(parser, Options(), 'data/digits', 'digits')
    return read_arguments(parser, args)


if __name__ == '__main__':
    run(make_digits, parse_args())
