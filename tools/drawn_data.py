"""What the makers of drawn data sets share: textures, folders that are complete or absent, words.

The backgrounds are the CC0 and public-domain pictures that ship inside scikit-image. Training and
validation share no piece of them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

SPLITS = ('train', 'val')
TEXTURES = (
    'brick', 'camera', 'cell', 'chelsea', 'coffee', 'grass', 'gravel', 'hubble_deep_field',
    'retina', 'rocket',
)  # fmt: skip
JPEG_QUALITY = 95
LUMA = np.array([0.114, 0.587, 0.299])  # of BGR, ITU-R BT.601


def make_once(
    out: str | Path, what: str, parameters: dict[str, Any], fill: Callable[[Path], None]
) -> Path:
    """Fill a folder, or find it filled by the same parameters; it appears only when complete.

    Args:
        out: folder to make; ``parameters.json`` in it tells how it was made.
        what: the data set in words, 'a digits data set'.
        parameters: what decides the data set, in types that JSON has.
        fill: writes everything else into the folder that it is given.

    Raises:
        FileExistsError: ``out`` holds anything but this very data set.
    """
    out, parameters = Path(out), json.loads(json.dumps(parameters))
    if _is_made(out, what, parameters):
        print(f'{out} already holds this data set; nothing to do.')
        return out
    partial = out.with_name(out.name + '.partial')
    if (partial / 'parameters.json').exists():
        print(f'Removing {partial}, left by an unfinished run.')
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    write_json(partial / 'parameters.json', parameters)
    fill(partial)
    partial.rename(out)
    print(f'Done: {out} (look at {out / "sheet.png"}).')
    return out


def _is_made(out: Path, what: str, parameters: dict[str, Any]) -> bool:
    if not out.exists():
        return False
    cure = f'remove {out} or choose another folder with --out'
    try:
        found = json.loads((out / 'parameters.json').read_text())
    except (OSError, ValueError):
        raise FileExistsError(f'{out} exists and is not {what}: {cure}.') from None
    changed = [
        f'{key}={found.get(key)} instead of {value}'
        for key, value in parameters.items()
        if found.get(key) != value
    ]
    if changed:
        raise FileExistsError(f'{out} was made with {", ".join(changed)}: {cure}.')
    return True


def refuse(tool: str, checks: dict[str, bool]) -> None:
    """Raise a ``ValueError`` with the first sentence whose check fails."""
    for sentence, fine in checks.items():
        if not fine:
            raise ValueError(f'{tool} cannot use {sentence}.')


def load_textures() -> dict[str, list[Picture]]:
    """Per split, (H, W, 3) BGR pictures: the left 65 % of each for training, the rest for val."""
    from skimage import data

    halves: dict[str, list[Picture]] = {split: [] for split in SPLITS}
    for name in TEXTURES:
        picture = getattr(data, name)()
        picture = np.ascontiguousarray(
            np.stack([picture] * 3, -1) if picture.ndim == 2 else picture[..., ::-1]
        )
        cut = int(0.65 * picture.shape[1])
        halves['train'].append(picture[:, :cut])
        halves['val'].append(picture[:, cut:])
    return halves


def background(rng: np.random.Generator, size: tuple[int, int], textures: list[Picture]) -> Picture:
    """A random view of a random texture, mirrored at its borders: sharp at any picture size."""
    texture = textures[rng.integers(len(textures))]
    zoom = rng.uniform(0.6, 1.6)
    x, y = rng.uniform(0, texture.shape[1]), rng.uniform(0, texture.shape[0])
    view = np.array([[zoom, 0, -x * zoom], [0, zoom, -y * zoom]])
    return cv2.warpAffine(texture, view, size[::-1], borderMode=cv2.BORDER_REFLECT_101)


def overlap(a: list[float], b: list[float]) -> float:
    """Intersection of two xywh boxes as a part of the smaller one."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0) / min(a[2] * a[3], b[2] * b[3])


def write_picture(path: Path, picture: Picture) -> None:
    """Write a JPEG.

    Raises:
        OSError: it could not be written.
    """
    if not cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
        raise OSError(f'{path} could not be written: is the disk full?')


def write_split(
    root: Path,
    split: str,
    options: Any,
    draw: Callable[[np.random.Generator], tuple[Picture, list[dict[str, Any]]]],
    description: str,
    categories: list[dict[str, Any]],
) -> None:
    """Draw a split into ``<split>/`` and ``annotations/<split>.json`` (COCO), with ids from 1.

    Args:
        options: with ``train`` and ``val`` (numbers of pictures), ``size`` (h, w) and ``seed``;
            picture i does not depend on how many there are.
        draw: gives a picture, and its annotations without ids and ``iscrowd``.
    """
    (root / split).mkdir()
    count, (height, width) = getattr(options, split), options.size
    images, notes, start = [], [], time.monotonic()
    for i in range(count):
        rng = np.random.default_rng([options.seed, SPLITS.index(split), i])
        picture, found = draw(rng)
        name = f'{i:06d}.jpg'
        write_picture(root / split / name, picture)
        images.append({'id': i + 1, 'file_name': name, 'height': height, 'width': width})
        notes += [{'image_id': i + 1, **note} for note in found]
        progress(split, i + 1, count, start)
    (root / 'annotations').mkdir(exist_ok=True)
    write_json(
        root / 'annotations' / f'{split}.json',
        {
            'info': {'description': description},
            'images': images,
            'annotations': [{'id': i, 'iscrowd': 0, **note} for i, note in enumerate(notes, 1)],
            'categories': categories,
        },
    )


def write_sheet(
    root: Path,
    mark: Callable[[Picture, dict[str, Any], int], None],
    rows: int = 4,
    columns: int = 6,
) -> None:
    """Draw the first pictures with their annotations: half the rows train, half val.

    Args:
        mark: draws an annotation into a picture that is so many times larger than the original.
    """
    cells: list[Picture] = []
    for split in SPLITS:
        truth = json.loads((root / 'annotations' / f'{split}.json').read_text())
        for image in truth['images'][: rows // 2 * columns]:
            picture = cv2.imread(str(root / split / image['file_name']))
            factor = max(1, round(240 / max(picture.shape[:2])))
            picture = cv2.resize(picture, None, fx=factor, fy=factor)
            for note in truth['annotations']:
                if note['image_id'] == image['id']:
                    mark(picture, note, factor)
            cells.append(cv2.copyMakeBorder(picture, 2, 2, 2, 2, cv2.BORDER_CONSTANT))
        cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    lines = [np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)]
    cv2.imwrite(str(root / 'sheet.png'), np.vstack(lines))


def add_arguments(parser: argparse.ArgumentParser, default: Any, out: str, things: str) -> None:
    """The command line of ``default`` (a dataclass of options); ``things`` are what is drawn."""
    add = parser.add_argument
    add('--out', type=Path, default=Path(out), help='folder to make')
    add('--train', type=int, default=default.train, help='training pictures')
    add('--val', type=int, default=default.val, help='validation pictures')
    add('--size', type=int, nargs='+', default=default.size, metavar='PIXELS',
        help='side of the square pictures, or height and width')  # fmt: skip
    add('--objects', type=int, nargs=2, default=default.objects, metavar=('MIN', 'MAX'),
        help=f'{things} in a picture')  # fmt: skip
    add('--scale', type=int, nargs=2, default=default.scale, metavar=('MIN', 'MAX'),
        help=f'height of {things} in pixels')  # fmt: skip
    add('--empty-fraction', type=float, default=default.empty_fraction,
        help=f'share of pictures without {things}')  # fmt: skip
    add('--max-overlap', type=float, default=default.max_overlap,
        help='greatest overlap of two boxes, as a part of the smaller one')  # fmt: skip
    add('--seed', type=int, default=default.seed, help='same seed, same bytes')


def read_arguments(parser: argparse.ArgumentParser, args: list[str] | None) -> argparse.Namespace:
    """Parse them; sizes and ranges become tuples."""
    parsed = parser.parse_args(args)
    if len(parsed.size) > 2:
        parser.error(f'--size takes one side or height and width, not {len(parsed.size)} numbers')
    parsed.size = (parsed.size[0], parsed.size[-1])
    parsed.objects, parsed.scale = tuple(parsed.objects), tuple(parsed.scale)
    return parsed


def run(make: Callable[..., Path], arguments: argparse.Namespace) -> None:
    """Make the data set of a command line; a refusal is one sentence and exit code 1."""
    try:
        make(**vars(arguments))
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    except ImportError as error:
        sys.exit(f'{make.__name__} needs scikit-learn and scikit-image ({error}); run `make env`.')


def progress(split: str, done: int, count: int, start: float) -> None:
    """Say now and then how far a split is; ``start`` is of ``time.monotonic``."""
    step = max(1, count // (100 if sys.stdout.isatty() else 4))
    if done % step and done != count:
        return
    left = (time.monotonic() - start) / done * (count - done)
    print(
        f'{split}: {done} of {count} pictures, {left:.0f} s left',
        end='\r' if sys.stdout.isatty() and done < count else '\n',
        flush=True,
    )


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write one line of JSON."""
    path.write_text(json.dumps(content) + '\n')
