"""Tracking data set of moving handwritten digits on real textures.

Digits move fast, cross, stop, leave the image and come back; the digits of a video have similar
colours. The layout is that of MOT Challenge, with COCO files of the same content for MMDetection's
video data sets. The splits share neither a glyph nor a part of a texture.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.datasets.command_line import check_options, show_progress
from tools.datasets.digits import VISIBLE, glyph_alpha, load_glyphs
from tools.datasets.drawing import LUMA, SPLITS, Image, background, load_textures
from tools.datasets.folder import make_once
from tools.datasets.video_files import TrackedBox, VideoWriter, write_sheet

RECIPE = 1  # raise it when the same parameters give other videos


@dataclass(frozen=True)
class Options:
    """Options of the data set; equal options give equal files.

    Attributes:
        train, val: Number of videos.
        frames: Number of frames per video.
        size: (h, w) of a frame in pixels.
        objects: Least and greatest number of digits in a video.
        scale: Least and greatest height of a digit in pixels.
        speed: Least and greatest displacement per frame in pixels.
        leave: Probability that the next way point is outside the image.
        stop: Probability of a stop of 3 to 8 frames at a way point.
        seed: Seed of all random numbers. Video ``i`` does not depend on the number of videos.
    """

    train: int = 60
    val: int = 10
    frames: int = 40
    size: tuple[int, int] = (160, 160)
    objects: tuple[int, int] = (3, 5)
    scale: tuple[int, int] = (20, 32)
    speed: tuple[float, float] = (5, 24)
    leave: float = 0.05
    stop: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        checks = {
            f'train={self.train} and val={self.val}: give at least one video each': (
                min(self.train, self.val) >= 1
            ),
            f'frames={self.frames}: give at least 1': self.frames >= 1,
            f'size={self.size}: give a height and a width of at least 64 pixels': (
                min(self.size) >= 64
            ),
            f'objects={self.objects}: give two numbers, 1 <= MIN <= MAX': (
                1 <= self.objects[0] <= self.objects[1]
            ),
            f'scale={self.scale}: give pixels, 8 <= MIN <= MAX <= half the shorter side '
            f'({min(self.size) // 2})': 8 <= self.scale[0] <= self.scale[1] <= min(self.size) // 2,
            f'speed={self.speed}: give pixels per frame, 0 < MIN <= MAX': (
                0 < self.speed[0] <= self.speed[1]
            ),
            f'leave={self.leave} and stop={self.stop}: give probabilities from 0 to 1': (
                0 <= self.leave <= 1 and 0 <= self.stop <= 1
            ),
            f'seed={self.seed}: give a whole number, 0 or more': self.seed >= 0,
        }
        check_options('make_videos', checks)


class MovingDigit(NamedTuple):
    """A digit and its position in every frame."""

    alpha: NDArray[np.float32]
    """(h, w) opacity of the digit with its outline."""
    color: NDArray[np.float64]
    """(h, w, 3) BGR."""
    corners: NDArray[np.int64]
    """(frames, 2) x and y of the top-left corner; can be outside the image."""


def make_videos(out: str | Path, **options: Any) -> Path:
    """Make the data set, or find that it is already made.

    Writes one folder per video into ``train/`` and ``val/`` (``img1/000001.jpg`` ...,
    ``gt/gt.txt`` with frame, identity, xywh box, whether it counts, class 1 and visibility,
    ``seqinfo.ini``), ``annotations/train.json`` and ``annotations/val.json`` (COCO with ``videos``,
    ``frame_id`` from 0, ``instance_id``, ``visibility`` and ``mot_conf``), ``parameters.json``,
    and ``sheet.png`` with frames and identities. The folder exists only when it is complete.

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
            start, count = time.monotonic(), getattr(wanted, split)
            writer = VideoWriter(root, split, wanted.size)
            for i in range(count):
                rng = np.random.default_rng([wanted.seed, SPLITS.index(split), i])
                inks = [ink for _, ink in glyphs[split]]
                writer.add(*draw_video(rng, wanted, inks, textures[split]))
                show_progress(split, i + 1, count, start, 'videos')
            writer.write_annotations()
        write_sheet(root)

    return make_once(out, 'a videos data set', {'recipe': RECIPE, **asdict(wanted)}, fill)


def draw_video(
    rng: np.random.Generator,
    options: Options,
    inks: list[NDArray[np.float32]],
    textures: list[Image],
) -> tuple[list[Image], list[list[TrackedBox]]]:
    """Frames (h, w, 3), and the visible objects of each frame."""
    texture = background(rng, options.size, textures)
    base = rng.integers(0, 256, 3)
    digits = [
        draw_digit(rng, options, inks[rng.integers(len(inks))], base)
        for _ in range(rng.integers(*options.objects, endpoint=True))
    ]
    frames, tracks = [], []
    for frame in range(options.frames):
        image = texture.astype(np.float64)
        owner = np.zeros(options.size, np.int64)  # identity that each pixel shows; 0: background
        for identity, digit in enumerate(digits, 1):
            paste_digit(image, owner, identity, digit, frame)
        frames.append(np.round(image).astype(np.uint8))
        boxes = [tracked_box(owner, identity, d, frame) for identity, d in enumerate(digits, 1)]
        tracks.append([box for box in boxes if box.visibility > 0])
    return frames, tracks


def draw_digit(
    rng: np.random.Generator,
    options: Options,
    ink: NDArray[np.float32],
    base: NDArray[np.int64],
) -> MovingDigit:
    """A digit in a colour near ``base``, with an outline that is visible on any background."""
    inner = glyph_alpha(ink, int(rng.integers(*options.scale, endpoint=True)))
    inner = np.pad(inner, 2)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    alpha = np.maximum(cv2.dilate(inner, disc), inner)
    color = np.clip(base + rng.integers(-50, 51, 3), 0, 255)
    outline = np.full(3, 0 if color @ LUMA > 127 else 255)
    painted = inner[..., None] * color + (1 - inner[..., None]) * outline
    ys, xs = np.nonzero(alpha >= VISIBLE)
    part = slice(ys.min(), ys.max() + 1), slice(xs.min(), xs.max() + 1)
    alpha, painted = alpha[part], painted[part]
    centers = draw_path(rng, options, max(alpha.shape))
    corners = np.round(centers - np.array(alpha.shape[::-1]) / 2).astype(np.int64)
    return MovingDigit(alpha, painted, corners)


def draw_path(rng: np.random.Generator, options: Options, side: int) -> NDArray[np.float64]:
    """(frames, 2) centre x, y of an object of ``side`` pixels that moves between way points.

    An object stays at most 6 frames at a way point outside the image, so it returns nearby.
    """
    width, height = options.size[::-1]
    place = rng.uniform((side / 2, side / 2), (width - side / 2, height - side / 2))
    path: list[NDArray[np.float64]] = []
    while len(path) < options.frames:
        goal = rng.uniform((side / 2, side / 2), (width - side / 2, height - side / 2))
        leaves = rng.random() < options.leave
        if leaves:
            beyond = side / 2 + 4
            border = rng.integers(4)
            goal[border % 2] = -beyond if border < 2 else (width, height)[border % 2] + beyond
        distance = float(np.hypot(*(goal - place)))
        steps = max(1, round(distance / rng.uniform(*options.speed)))
        path += [place + (goal - place) * step / steps for step in range(steps)]
        if leaves:
            path += [goal] * int(rng.integers(1, 6, endpoint=True))
        elif rng.random() < options.stop:
            path += [goal] * int(rng.integers(3, 8, endpoint=True))
        place = goal
    return np.array(path[: options.frames])


def paste_digit(
    image: NDArray[np.float64],
    owner: NDArray[np.int64],
    identity: int,
    digit: MovingDigit,
    frame: int,
) -> None:
    """Blend a digit into a frame and mark its pixels in ``owner``; changes both."""
    there, own = _common_part(digit, frame, owner.shape)
    alpha = digit.alpha[own][..., None]
    image[there] += alpha * (digit.color[own] - image[there])
    owner[there][digit.alpha[own] >= VISIBLE] = identity


def tracked_box(
    owner: NDArray[np.int64], identity: int, digit: MovingDigit, frame: int
) -> TrackedBox:
    """Box and visibility of a digit in a finished frame."""
    x, y = (int(value) for value in digit.corners[frame])
    height, width = digit.alpha.shape
    visible = np.count_nonzero(owner == identity) / np.count_nonzero(digit.alpha >= VISIBLE)
    return TrackedBox(identity, [float(x), float(y), float(width), float(height)], visible)


def _common_part(
    digit: MovingDigit, frame: int, size: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The part of the frame that a digit covers, and the part of the digit inside the frame."""
    there, own = [], []
    for low, side, limit in zip(digit.corners[frame][::-1], digit.alpha.shape, size, strict=True):
        first, last = min(max(low, 0), limit), min(max(low + side, 0), limit)
        there.append(slice(first, last))
        own.append(slice(first - low, last - low))
    return tuple(there), tuple(own)
