"""Checks of the image files that an annotation file lists."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mmcv
from PIL import Image

from mmdet_losses.data.words import plural

OPENED = 2000
"""Number of images whose header is read, spread evenly over the file."""
EXIF_ORIENTATION = 0x0112
ENDS = {'JPEG': b'\xff\xd9', 'MPO': b'\xff\xd9', 'PNG': b'IEND'}
"""Format -> mark at the end of a complete file."""


class BadImages(NamedTuple):
    """Messages about images."""

    errors: list[str]
    warnings: list[str]


def bad_images(
    images: Iterable[tuple[str, float, float]], folder: str, source: str, pipeline: Sequence[Any]
) -> BadImages:
    """Messages about missing and unreadable images, wrong sizes and extreme shapes.

    Existence is checked for all images, size and format for at most :data:`OPENED` of them.

    Args:
        images: (file name, height, width) of each.
        folder: that the names are relative to.
        source: name of the annotation file.
        pipeline: config of the steps, for the resizing.
    """
    images = list(images)
    paths = [os.path.join(folder, name) for name, *_ in images]
    missing = missing_paths(paths)
    if missing:
        first = missing[0]
        what = 'is a folder' if os.path.isdir(first) else 'does not exist'
        error = (
            f'image {first} is listed in an annotation file but {what} ({len(missing)} of '
            f'{len(paths)} images of {source}): correct data_prefix or data_root in the config, '
            'or remove the entries.'
        )
        return BadImages([error], [])
    chosen = range(0, len(images), max(1, -(-len(images) // OPENED)))
    errors = _vanishing(images, source, pipeline)
    wrong, unreadable = [], []
    for i in chosen:
        size = stored_size(paths[i])
        if size is None:
            unreadable.append(paths[i])
        elif size != images[i][1:]:
            wrong.append((paths[i], images[i][1:], size))
    if unreadable:
        errors.append(
            f'image {unreadable[0]} cannot be read (empty, truncated, or not an image; '
            f'{len(unreadable)} of {len(chosen)} examined images of {source}): replace the file by '
            'a JPEG or PNG image, or remove its entry from the annotation file.'
        )
    return BadImages(errors, [_wrong_size(wrong, len(chosen), source)] if wrong else [])


def missing_paths(paths: Sequence[str]) -> list[str]:
    """Paths that are no files; one listing per folder instead of a query per file."""
    files: dict[str, set[str]] = {}
    missing = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in files:
            files[folder] = set()
            if os.path.isdir(folder or '.'):
                with os.scandir(folder or '.') as entries:
                    files[folder] = {entry.name for entry in entries if entry.is_file()}
        if name not in files[folder]:
            missing.append(path)
    return missing


def stored_size(path: str) -> tuple[int, int] | None:
    """(height, width) of an image as MMCV reads it, with its EXIF rotation; None: unreadable.

    The header is enough for a JPEG or PNG file with the mark of its end. Files without it, which
    are truncated or have something behind it, and files of other formats are decoded.
    """
    try:
        with Image.open(path) as image:
            end = ENDS.get(image.format or '')
            if end:
                if end not in _tail(path) and not _loads(image):
                    return None
                width, height = image.size
                turned = image.getexif().get(EXIF_ORIENTATION, 1) >= 5
                return (width, height) if turned else (height, width)
    except Exception:  # Pillow raises many kinds of errors for files that OpenCV may read
        pass
    try:
        return mmcv.imread(path).shape[:2]
    except Exception:  # of OpenCV; None has no shape
        return None


def _loads(image: Image.Image) -> bool:
    """Whether all pixels can be decoded; OpenCV makes missing ones gray without an error."""
    try:
        image.load()
    except Exception:
        return False
    return True


def _tail(path: str) -> bytes:
    with open(path, 'rb') as file:
        file.seek(max(0, os.path.getsize(path) - 16))
        return file.read()


def _wrong_size(
    wrong: list[tuple[str, tuple[float, float], tuple[int, int]]], examined: int, source: str
) -> str:
    path, listed, size = wrong[0]
    turned = sum(listed[::-1] == size for _, listed, size in wrong)
    cause = f' {turned} of them are rotated by their EXIF orientation.' if turned else ''
    return (
        f'{source}: {len(wrong)} of {examined} examined images have another size than their file '
        f'(the first: {path} is {size[1]} x {size[0]} but listed as {listed[1]} x {listed[0]}), so '
        f'their boxes may be shifted.{cause} Correct the sizes or the images.'
    )


def _vanishing(
    images: Sequence[tuple[str, float, float]], source: str, pipeline: Sequence[Any]
) -> list[str]:
    """Error about images that a ``Resize`` step would shrink to less than a pixel."""
    for step in pipeline:
        if str(step.get('type')).rpartition('.')[2] != 'Resize' or not step.get('scale'):
            continue
        scale = step['scale']
        if not step.get('keep_ratio') or isinstance(scale, (int, float)):
            continue
        long, short = max(scale), min(scale)

        def vanishes(height: float, width: float, long: float = long, short: float = short) -> bool:
            low, high = sorted((height, width))
            return int(low * min(long / high, short / low) + 0.5) < 1

        bad = [image for image in images if vanishes(image[1], image[2])]
        if bad:
            name, height, width = bad[0]
            return [
                f'{source}: {plural(len(bad), "image is", "images are")} too elongated (the first: '
                f'{Path(name)} with {width} x {height}): Resize to {tuple(scale)} leaves less than '
                'a pixel of a side. Cut them into parts, or remove their entries.'
            ]
    return []
