"""Make a pose data set of jointed figures on real textures, in COCO's keypoint format, offline.

Figures have COCO's 17 joints, random poses, sizes and colours, face the viewer or turn away, and
hide behind each other, behind patches of texture and beyond the border. Training and validation
share no piece of a texture, and the same seed gives the same bytes.
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
    write_sheet,
    write_split,
)
from tools.figures import BONES, FACE, JOINTS, draw_looks, draw_pose, paint

RECIPE = 3  # raise it whenever the same parameters begin to give other pictures
CATEGORY = {
    'id': 1,
    'name': 'person',
    'keypoints': JOINTS,
    'skeleton': [[a + 1, b + 1] for a, b in BONES],
}
RIM = 0.08  # of a figure around its joints, as a part of its height
OUTSIDE = 0.12  # part of a figure's extent that may lie outside the picture
PATCH = 10**6  # owner of pixels that a patch of texture hides


@dataclass(frozen=True)
class Options:
    """What decides the data set; two equal instances give equal bytes.

    Attributes:
        train, val: number of pictures.
        size: (height, width) of a picture in pixels.
        objects: least and greatest number of figures in a picture that has any.
        scale: least and greatest height of a standing figure in pixels.
        empty_fraction: share of the pictures without a figure.
        max_overlap: greatest intersection of two figures' extents, as a part of the smaller one.
        hidden_fraction: share of the figures that a patch of texture hides in part.
        seed: of everything random; picture ``i`` does not depend on how many there are.
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
        shares = ('empty_fraction', 'max_overlap', 'hidden_fraction')
        checks = {
            f'train={self.train} and val={self.val}: give at least one picture each': (
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
                f'{name}={getattr(self, name)}: give a share from 0 to 1': (
                    0 <= getattr(self, name) <= 1
                )
                for name in shares
            },
            f'seed={self.seed}: give a whole number from 0 on': self.seed >= 0,
        }
        refuse('make_figures', checks)


def make_figures(out: str | Path, **options: Any) -> Path:
    """Make the data set, or find it already made.

    Writes ``train/``, ``val/`` (JPEG), ``annotations/train.json``, ``annotations/val.json`` (COCO
    keypoints: one category, 'person'; boxes and areas are those of what is seen of a figure),
    ``parameters.json`` and ``sheet.png``, pictures with their skeletons. The folder appears only
    when it is complete.

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
        textures = load_textures()
        for split in SPLITS:
            draw = partial(draw_picture, options=wanted, textures=textures[split])
            words = 'Jointed figures on CC0 and public-domain textures'
            write_split(root, split, wanted, draw, words, [CATEGORY])
        write_sheet(root, _mark)

    return make_once(out, 'a figures data set', {'recipe': RECIPE, **asdict(wanted)}, fill)


def draw_picture(
    rng: np.random.Generator, options: Options, textures: list[Picture]
) -> tuple[Picture, list[dict[str, Any]]]:
    """One picture (h, w, 3) and its annotations without ids."""
    picture = background(rng, options.size, textures)
    owner = np.full(options.size, -1)
    extents: list[list[float]] = []
    figures: list[tuple[NDArray[np.float64], bool]] = []
    if rng.random() < options.empty_fraction:
        return picture, []
    for _ in range(rng.integers(*options.objects, endpoint=True)):
        pose, height = draw_pose(rng), float(rng.uniform(*options.scale))
        for _ in range(20):  # a crowded picture gets fewer figures than drawn
            joints = _placed(rng, pose.joints * height, RIM * height, options.size)
            extent = _extent(joints, RIM * height)
            if all(overlap(extent, other) <= options.max_overlap for other in extents):
                ground = float(picture[_window(extent, options.size)].mean((0, 1)) @ LUMA)
                layer = paint(pose, draw_looks(rng, ground), joints, height, options.size)
                alpha = layer.alpha[..., None]
                picture = np.round(picture + alpha * (layer.colour - picture)).astype(np.uint8)
                owner[layer.alpha >= 0.5] = len(figures)
                extents.append(extent)
                figures.append((joints, pose.facing))
                if rng.random() < options.hidden_fraction:
                    _hide(rng, picture, owner, joints, height, textures)
                break
    notes = [_note(owner, i, *figure) for i, figure in enumerate(figures)]
    return picture, [note for note in notes if note is not None]


def _placed(
    rng: np.random.Generator, joints: NDArray[np.float64], rim: float, size: tuple[int, int]
) -> NDArray[np.float64]:
    """Joints (17, 2) moved to a random place that is mostly inside the picture."""
    low, high = joints.min(0) - rim, joints.max(0) + rim
    slack = OUTSIDE * (high - low)
    first, last = -low - slack, np.array(size[::-1]) - high + slack
    return joints + rng.uniform(np.minimum(first, last), np.maximum(first, last))


def _extent(joints: NDArray[np.float64], rim: float) -> list[float]:
    low, high = joints.min(0) - rim, joints.max(0) + rim
    return [*low.tolist(), *(high - low).tolist()]


def _window(box: list[float], size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of an xywh box within a picture; never empty."""
    x, y, w, h = box
    spans = []
    for start, length, side in ((y, h, size[0]), (x, w, size[1])):
        low = min(max(int(start), 0), side - 1)
        spans.append(slice(low, max(low + 1, min(round(start + length), side))))
    return spans[0], spans[1]


def _hide(
    rng: np.random.Generator,
    picture: Picture,
    owner: NDArray[np.int64],
    joints: NDArray[np.float64],
    height: float,
    textures: list[Picture],
) -> None:
    """Put a patch of texture over a joint of the figure that was drawn last."""
    sides = height * rng.uniform(0.12, 0.25, 2)
    corner = joints[rng.integers(5, len(joints))] - sides * rng.uniform(0.3, 0.7, 2)
    window = _window([*corner.tolist(), *sides.tolist()], owner.shape)
    patch = background(rng, owner.shape, textures)
    picture[window] = patch[window]
    owner[window] = PATCH


def _note(
    owner: NDArray[np.int64], number: int, joints: NDArray[np.float64], facing: bool
) -> dict[str, Any] | None:
    """COCO's annotation of a figure; None if nothing of it is seen."""
    ys, xs = np.nonzero(owner == number)
    if not len(xs):
        return None
    values: list[float] = []
    for joint, (x, y) in enumerate(joints.tolist()):
        column, row = round(x), round(y)
        inside = 0 <= column < owner.shape[1] and 0 <= row < owner.shape[0]
        if not inside or (joint in FACE and not facing):
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


def _mark(picture: Picture, note: dict[str, Any], factor: int) -> None:
    """Box and skeleton; joints that are hidden are rings."""
    x, y, w, h = (v * factor for v in note['bbox'])
    cv2.rectangle(picture, (x, y), (x + w - 1, y + h - 1), (0, 255, 255), 1)
    joints = np.array(note['keypoints']).reshape(-1, 3)
    places = np.round((joints[:, :2] + 0.5) * factor - 0.5).astype(int).tolist()
    for a, b in BONES:
        if joints[a, 2] and joints[b, 2]:
            cv2.line(picture, places[a], places[b], (255, 255, 255), 1, cv2.LINE_AA)
    for joint, (place, flag) in enumerate(zip(places, joints[:, 2], strict=True)):
        colour = (115, 158, 0) if JOINTS[joint].startswith('left') else (0, 94, 213)
        if flag:
            cv2.circle(picture, place, 3, colour, -1 if flag == 2 else 1, cv2.LINE_AA)


def parse_args(args: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; its defaults are those of :class:`Options`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add_arguments(parser, Options(), 'data/figures', 'figures')
    parser.add_argument(
        '--hidden-fraction', type=float, default=Options.hidden_fraction,
        help='share of figures that a patch of texture hides in part',
    )  # fmt: skip
    return read_arguments(parser, args)


if __name__ == '__main__':
    run(make_figures, parse_args())
