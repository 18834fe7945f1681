"""Images to predict: a file, a folder, a pattern, a video or a camera."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mmdet_losses.engine.processes import UsageError

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm')
VIDEO_SUFFIXES = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg')
CAMERA = 'webcam'
DEFAULT_FPS = 10.0
"""Frames per second of a source that does not tell them."""
SHEET = 'sheet.png'
"""Overview that the tools write into the folder of a data set; not one of its images."""


class Frame(NamedTuple):
    """One image of a source."""

    image: NDArray[np.uint8]
    """(h, w, 3) BGR."""
    name: str
    """Path of the image from the folder of the source; a number for a frame of a video."""
    number: int
    """Position in the source, from 0."""


class Media:
    """A source of frames.

    Attributes:
        name: Name of the source, without folders and suffix.
        total: Number of frames; ``None`` if it is not known.
        unreadable: Image files that OpenCV could not read; they are skipped.
        path: Of a video file.
    """

    is_video = False
    path: Path | None = None
    fps = DEFAULT_FPS

    def __init__(self, name: str, total: int | None) -> None:
        self.name, self.total = name, total
        self.unreadable: list[Path] = []

    def __iter__(self) -> Iterator[Frame]:
        raise NotImplementedError


def read_image(path: Path) -> NDArray[np.uint8] | None:
    """BGR image as OpenCV reads it; None if it cannot."""
    return cv2.imread(str(path))


class ImageFiles(Media):
    """Image files, in the given order.

    Attributes:
        read: Function of a path that returns a BGR image, or None if the file is no image.
    """

    def __init__(self, name: str, paths: list[Path], folder: Path) -> None:
        super().__init__(name, len(paths))
        self.paths, self.folder = paths, folder
        self.read: Callable[[Path], NDArray[np.uint8] | None] = read_image

    def __iter__(self) -> Iterator[Frame]:
        for number, path in enumerate(self.paths):
            image = self.read(path)
            if image is None:
                self.unreadable.append(path)
                continue
            yield Frame(image, str(path.relative_to(self.folder)), number)


class VideoFrames(Media):
    """Frames of a video file or a camera.

    Raises:
        UsageError: OpenCV cannot open the source.
    """

    is_video = True

    def __init__(self, source: Path | int) -> None:
        is_camera = isinstance(source, int)
        self.path = None if isinstance(source, int) else source
        self.capture = cv2.VideoCapture(source if is_camera else str(source))
        if not self.capture.isOpened():
            if is_camera:
                raise UsageError(
                    f'camera {source} cannot be opened; check that it is connected and not in use.'
                )
            raise UsageError(f'OpenCV cannot read the video {source}; convert it to .mp4 (H.264).')
        count = int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT))
        super().__init__(
            f'{CAMERA}_{source}' if isinstance(source, int) else source.stem,
            count if count > 0 and not is_camera else None,
        )
        fps = self.capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else DEFAULT_FPS

    def __iter__(self) -> Iterator[Frame]:
        number = 0
        try:
            while True:
                success, image = self.capture.read()
                if not success:
                    return
                yield Frame(image, f'{number:06d}', number)
                number += 1
        finally:
            self.capture.release()


def open_media(source: str) -> Media:
    """Open an image file, a folder of images, a pattern, a video file, or ``webcam[:NUMBER]``.

    Raises:
        UsageError: The source does not exist, has no images, or has an unknown format.
    """
    if source == CAMERA or source.startswith(f'{CAMERA}:'):
        number = source.partition(':')[2] or '0'
        if not number.isdecimal():
            raise UsageError(f'camera {number!r} is not a number; use {CAMERA}:0.')
        return VideoFrames(int(number))
    path = Path(source).expanduser()
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return _file(path)
    if glob.has_magic(source):
        return _pattern(source)
    raise UsageError(
        f'{source} not found (from {Path.cwd()}); give an image, a folder, a pattern in quotes, a '
        f'video or {CAMERA}.'
    )


def _folder(folder: Path) -> Media:
    """Images of a folder; of its subfolders if it has none itself, or only a sheet."""
    for files in (folder.iterdir(), folder.rglob('*')):
        if paths := sorted(path for path in files if _is_image(path) and path.name != SHEET):
            return ImageFiles(folder.resolve().name, paths, folder)
    raise UsageError(f'folder {folder} has no images ({", ".join(IMAGE_SUFFIXES)}).')


def _file(path: Path) -> Media:
    if _is_image(path):
        return ImageFiles(path.stem, [path], path.parent)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return VideoFrames(path)
    raise UsageError(
        f'{path} is neither an image ({", ".join(IMAGE_SUFFIXES)}) nor a video '
        f'({", ".join(VIDEO_SUFFIXES)}); the order is CONFIG CHECKPOINT SOURCE.'
    )


def _pattern(pattern: str) -> Media:
    found = sorted(Path(each) for each in glob.glob(os.path.expanduser(pattern), recursive=True))
    paths = [path for path in found if _is_image(path)]
    if not paths:
        files = f'{len(found)} files, but no image' if found else 'no file'
        raise UsageError(f'pattern {pattern} matches {files} (from {Path.cwd()}).')
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    return ImageFiles(folder.resolve().name, paths, folder)


def _is_image(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES
