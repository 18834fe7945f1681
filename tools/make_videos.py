"""Make a tracking data set of moving handwritten digits on real textures, offline.

Digits run fast, cross, stop, leave the picture and come back; those of one video have nearly one
colour. The layout is MOT Challenge's, with COCO json files of the same content for MMDetection's
video data sets. Training and validation share neither a glyph nor a piece of a texture, and the
same seed gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.drawn_data import (
    LUMA,
    SPLITS,
    Picture,
    background,
    load_textures,
    make_once,
    progress,
    refuse,
    run,
    write_json,
    write_picture,
)
from tools.make_digits import VISIBLE, glyph_alpha, load_glyphs
from tools.track_pictures import draw_tracks, write_rows

RECIPE = 1  # raise it whenever the same parameters begin to give other videos
COUNTED = 0.25  # visible part from which an object counts, as in the official MOT17 recipe
FRAME_RATE = 10


@dataclass(frozen=True)
class Options:
    """What decides the data set; two equal instances give equal bytes.

    Attributes:
        train, val: number of videos.
        frames: of a video.
        size: (height, width) of a frame in pixels.
        objects: least and greatest number of digits in a video.
        scale: least and greatest height of a digit in pixels.
        speed: least and greatest way from frame to frame in pixels.
        leave: probability that the next way point is outside.
        stop: probability of standing still at a way point, for 3 to 8 frames.
        seed: of everything random; video ``i`` does not depend on how many there are.
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
            f'speed={self.speed}: give pixels a frame, 0 < MIN <= MAX': (
                0 < self.speed[0] <= self.speed[1]
            ),
            f'leave={self.leave} and stop={self.stop}: give probabilities from 0 to 1': (
                0 <= self.leave <= 1 and 0 <= self.stop <= 1
            ),
            f'seed={self.seed}: give a whole number from 0 on': self.seed >= 0,
        }
        refuse('make_videos', checks)


class Actor(NamedTuple):
    """A digit with its way."""

    alpha: NDArray[np.float32]
    """(h, w) opacity of ink and rim together."""
    colour: NDArray[np.float64]
    """(h, w, 3) BGR."""
    corners: NDArray[np.int64]
    """(frames, 2) x and y of its upper left corner, perhaps outside."""


class Seen(NamedTuple):
    """An object in a frame."""

    identity: int
    """Of the video, from 1 on."""
    box: list[float]
    """xywh in pixels, the whole digit, perhaps partly outside."""
    visibility: float
    """Part of it that is neither outside nor behind another one."""


def make_videos(out: str | Path, **options: Any) -> Path:
    """Make the data set, or find it already made.

    Writes ``train/`` and ``val/`` with a folder a video (``img1/000001.jpg`` ..., ``gt/gt.txt``
    with frame, identity, box xywh, whether it counts, class 1, visibility;
    ``seqinfo.ini``), ``annotations/train.json`` and ``val.json`` (COCO with ``videos``,
    ``frame_id`` from 0, ``instance_id``, ``visibility``, ``mot_conf``), ``parameters.json`` and
    ``sheet.png``, frames of some videos with the identities. The folder appears only when it is
    complete.

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
            start, count = time.monotonic(), getattr(wanted, split)
            truth = Truth(split, wanted)
            for i in range(count):
                rng = np.random.default_rng([wanted.seed, SPLITS.index(split), i])
                inks = [ink for _, ink in glyphs[split]]
                truth.add(root, *draw_video(rng, wanted, inks, textures[split]))
                progress(split, i + 1, count, start)
            truth.write(root)
        write_sheet(root)

    return make_once(out, 'a videos data set', {'recipe': RECIPE, **asdict(wanted)}, fill)


def draw_video(
    rng: np.random.Generator,
    options: Options,
    inks: list[NDArray[np.float32]],
    textures: list[Picture],
) -> tuple[list[Picture], list[list[Seen]]]:
    """Frames (h, w, 3) and what is seen in each."""
    ground = background(rng, options.size, textures)
    base = rng.integers(0, 256, 3)
    actors = [
        cast(rng, options, inks[rng.integers(len(inks))], base)
        for _ in range(rng.integers(*options.objects, endpoint=True))
    ]
    pictures, seen = [], []
    for frame in range(options.frames):
        picture = ground.astype(np.float64)
        owner = np.zeros(options.size, np.int64)  # of each pixel, 0 the ground
        for number, actor in enumerate(actors, 1):
            put(picture, owner, number, actor, frame)
        pictures.append(np.round(picture).astype(np.uint8))
        seen.append([look(owner, n, actor, frame) for n, actor in enumerate(actors, 1)])
    return pictures, [[each for each in found if each.visibility > 0] for found in seen]


def cast(
    rng: np.random.Generator,
    options: Options,
    ink: NDArray[np.float32],
    base: NDArray[np.int64],
) -> Actor:
    """A digit in about the video's colour, with a rim that shows on any ground, and its way."""
    inner = glyph_alpha(ink, int(rng.integers(*options.scale, endpoint=True)))
    inner = np.pad(inner, 2)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    alpha = np.maximum(cv2.dilate(inner, disc), inner)
    colour = np.clip(base + rng.integers(-50, 51, 3), 0, 255)
    rim = np.full(3, 0 if colour @ LUMA > 127 else 255)
    painted = inner[..., None] * colour + (1 - inner[..., None]) * rim
    ys, xs = np.nonzero(alpha >= VISIBLE)
    part = slice(ys.min(), ys.max() + 1), slice(xs.min(), xs.max() + 1)
    alpha, painted = alpha[part], painted[part]
    way = walk(rng, options, max(alpha.shape))
    corners = np.round(way - np.array(alpha.shape[::-1]) / 2).astype(np.int64)
    return Actor(alpha, painted, corners)


def walk(rng: np.random.Generator, options: Options, side: int) -> NDArray[np.float64]:
    """(frames, 2) centre x, y of an object of ``side`` pixels on its way between way points.

    A way point outside is left again after up to 6 frames, so that the object comes back nearby.
    """
    width, height = options.size[::-1]
    place = rng.uniform((side / 2, side / 2), (width - side / 2, height - side / 2))
    way: list[NDArray[np.float64]] = []
    while len(way) < options.frames:
        goal = rng.uniform((side / 2, side / 2), (width - side / 2, height - side / 2))
        leaves = rng.random() < options.leave
        if leaves:
            beyond = side / 2 + 4
            border = rng.integers(4)
            goal[border % 2] = -beyond if border < 2 else (width, height)[border % 2] + beyond
        distance = float(np.hypot(*(goal - place)))
        steps = max(1, round(distance / rng.uniform(*options.speed)))
        way += [place + (goal - place) * step / steps for step in range(steps)]
        if leaves:
            way += [goal] * int(rng.integers(1, 6, endpoint=True))
        elif rng.random() < options.stop:
            way += [goal] * int(rng.integers(3, 8, endpoint=True))
        place = goal
    return np.array(way[: options.frames])


def put(
    picture: NDArray[np.float64],
    owner: NDArray[np.int64],
    number: int,
    actor: Actor,
    frame: int,
) -> None:
    """Draw an actor over what is there, and take its pixels."""
    there, own = overlap_of(actor, frame, owner.shape)
    alpha = actor.alpha[own][..., None]
    picture[there] += alpha * (actor.colour[own] - picture[there])
    owner[there][actor.alpha[own] >= VISIBLE] = number


def look(owner: NDArray[np.int64], number: int, actor: Actor, frame: int) -> Seen:
    """What is left of an actor when all are drawn."""
    x, y = (int(value) for value in actor.corners[frame])
    height, width = actor.alpha.shape
    visible = np.count_nonzero(owner == number) / np.count_nonzero(actor.alpha >= VISIBLE)
    return Seen(number, [float(x), float(y), float(width), float(height)], visible)


def overlap_of(
    actor: Actor, frame: int, size: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The part of the frame that an actor covers, and the part of the actor that is in it."""
    there, own = [], []
    for low, side, limit in zip(actor.corners[frame][::-1], actor.alpha.shape, size, strict=True):
        first, last = min(max(low, 0), limit), min(max(low + side, 0), limit)
        there.append(slice(first, last))
        own.append(slice(first - low, last - low))
    return tuple(there), tuple(own)


class Truth:
    """Writes the videos of a split, and collects their annotations."""

    def __init__(self, split: str, options: Options) -> None:
        self.split, self.options = split, options
        self.videos: list[dict[str, Any]] = []
        self.images: list[dict[str, Any]] = []
        self.notes: list[dict[str, Any]] = []
        self.identities = 0

    def add(self, root: Path, pictures: list[Picture], seen: list[list[Seen]]) -> None:
        """Write a video."""
        number = len(self.videos) + 1
        name, (height, width) = f'{self.split}-{number:03d}', self.options.size
        folder = root / self.split / name
        for part in ('img1', 'gt'):
            (folder / part).mkdir(parents=True)
        self.videos.append({'id': number, 'name': name, 'fps': FRAME_RATE})
        rows, start = [], self.identities
        for frame, (picture, found) in enumerate(zip(pictures, seen, strict=True)):
            file_name = f'{name}/img1/{frame + 1:06d}.jpg'
            write_picture(root / self.split / file_name, picture)
            image = {'id': len(self.images) + 1, 'video_id': number, 'frame_id': frame}
            size = {'height': height, 'width': width}
            self.images.append({**image, 'file_name': file_name, **size})
            for each in found:
                rows.append((frame + 1, each))
                self.identities = max(self.identities, start + each.identity)
                self.notes.append(self._note(image['id'], start + each.identity, each))
        write_gt(folder, rows)
        write_seqinfo(folder, name, len(pictures), (height, width))

    def _note(self, image: int, identity: int, seen: Seen) -> dict[str, Any]:
        return {
            'id': len(self.notes) + 1,
            'image_id': image,
            'category_id': 1,
            'bbox': seen.box,
            'area': seen.box[2] * seen.box[3],
            'iscrowd': 0,
            'instance_id': identity,
            'visibility': round(seen.visibility, 4),
            'mot_conf': int(seen.visibility >= COUNTED),
        }

    def write(self, root: Path) -> None:
        """Write ``annotations/<split>.json``."""
        (root / 'annotations').mkdir(exist_ok=True)
        write_json(
            root / 'annotations' / f'{self.split}.json',
            {
                'info': {'description': 'Moving handwritten digits on CC0 and public textures'},
                'videos': self.videos,
                'images': self.images,
                'annotations': self.notes,
                'categories': [{'id': 1, 'name': 'digit'}],
                'num_instances': self.identities,
            },
        )


def write_gt(folder: Path, rows: list[tuple[int, Seen]]) -> None:
    """``gt/gt.txt`` of MOT Challenge; pixels from 0 on, as its converters take them."""
    lines = []
    for frame, seen in sorted(rows, key=lambda row: (row[1].identity, row[0])):
        x, y, w, h = seen.box
        counts = int(seen.visibility >= COUNTED)
        lines.append(
            f'{frame},{seen.identity},{x:g},{y:g},{w:g},{h:g},{counts},1,{seen.visibility:.4f}\n'
        )
    (folder / 'gt' / 'gt.txt').write_text(''.join(lines))


def write_seqinfo(folder: Path, name: str, frames: int, size: tuple[int, int]) -> None:
    """``seqinfo.ini`` of MOT Challenge."""
    lines = {
        'name': name,
        'imDir': 'img1',
        'frameRate': FRAME_RATE,
        'seqLength': frames,
        'imWidth': size[1],
        'imHeight': size[0],
        'imExt': '.jpg',
    }
    text = ''.join(f'{key}={value}\n' for key, value in lines.items())
    (folder / 'seqinfo.ini').write_text('[Sequence]\n' + text)


def write_sheet(root: Path, rows: int = 4, columns: int = 6) -> None:
    """Consecutive frames with boxes and identities, a row a video: half train, half val."""
    cells = []
    for split in SPLITS:
        truth = json.loads((root / 'annotations' / f'{split}.json').read_text())
        for video in truth['videos'][: rows // 2]:
            images = [each for each in truth['images'] if each['video_id'] == video['id']]
            first = max(0, len(images) // 2 - columns // 2)
            for image in images[first : first + columns]:
                notes = [each for each in truth['annotations'] if each['image_id'] == image['id']]
                notes = [each for each in notes if each['mot_conf']]
                boxes = np.array([each['bbox'] for each in notes]).reshape(-1, 4)
                boxes[:, 2:] += boxes[:, :2]
                picture = cv2.imread(str(root / split / image['file_name']))
                ids = [each['instance_id'] for each in notes]
                cells.append(draw_tracks(picture, boxes, ids, factor=2))
            cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    write_rows(root / 'sheet.png', cells, columns)


def parse_args(args: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; its defaults are those of :class:`Options`."""
    default = Options()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add('--out', type=Path, default=Path('data/videos'), help='folder to make')
    add('--train', type=int, default=default.train, help='training videos')
    add('--val', type=int, default=default.val, help='validation videos')
    add('--frames', type=int, default=default.frames, help='frames of a video')
    for name, kind, what in (
        ('size', int, 'height and width of a frame'),
        ('objects', int, 'least and greatest number of digits in a video'),
        ('scale', int, 'least and greatest height of a digit in pixels'),
        ('speed', float, 'least and greatest way from frame to frame in pixels'),
    ):
        add(f'--{name}', type=kind, nargs=2, default=getattr(default, name), help=what)
    add('--leave', type=float, default=default.leave, help='probability of leaving next')
    add('--stop', type=float, default=default.stop, help='probability of stopping next')
    add('--seed', type=int, default=default.seed, help='same seed, same bytes')
    parsed = parser.parse_args(args)
    for name in ('size', 'objects', 'scale', 'speed'):
        setattr(parsed, name, tuple(getattr(parsed, name)))
    return parsed


if __name__ == '__main__':
    run(make_videos, parse_args())
