"""Plain loaders: what an official training code computes for an image, in its order.

They follow the published sampling rules step by step: the file is decoded, the whole canvas is
painted, everything is warped or resized, colours change in passes over the image. Boxes are left
out, so a plain loader does less than a pipeline. They are no official code.
"""
# ruff: noqa: NPY002 (the benchmark seeds the global generator)

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mmdet_losses.data.color import EIGENVALUES, EIGENVECTORS
from mmdet_losses.data.draws import coin, inside, scale_or_inverse

Image = NDArray[np.generic]
SCALES = np.arange(0.6, 1.4, 0.1)


def _read(path: Path) -> NDArray[np.uint8]:
    return cv2.imread(str(path))


def _planes(image: Image) -> Image:
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def _jittered(image: Image) -> Image:
    """Colours of CornerNet and CenterNet, one pass for each step."""
    image = image.astype(np.float32) / 255
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    partners = (0, gray.mean(), gray[..., None])
    for number in np.random.permutation(3):
        alpha = 1 + np.random.uniform(-0.4, 0.4)
        image = image * alpha + (1 - alpha) * partners[number]
    image += EIGENVECTORS @ (EIGENVALUES * np.random.normal(scale=0.1, size=3))
    return _planes((image - 0.45) / 0.27).astype(np.float32)


def corner_net(paths: Sequence[Path]) -> Image:
    """A black square with the crop, resized to 511 pixels."""
    image = _read(paths[0])
    side = int(511 * np.random.choice(SCALES))
    x, y = (inside(each, 128) for each in image.shape[1::-1])
    half = side // 2
    left, top = max(x - half, 0), max(y - half, 0)
    part = image[top : y + half, left : x + half]
    crop = np.zeros((side, side, 3), np.uint8)
    dx, dy = left - x + half, top - y + half
    crop[dy : dy + part.shape[0], dx : dx + part.shape[1]] = part
    crop = cv2.resize(crop, (511, 511))
    return _jittered(crop[:, ::-1] if coin() else crop)


def center_net(paths: Sequence[Path]) -> Image:
    """One affine map to 512 pixels."""
    image = _read(paths[0])
    x, y = (inside(each, 128) for each in image.shape[1::-1])
    if coin():
        image = image[:, ::-1].copy()
    scale = 512 / (max(image.shape) * np.random.choice(SCALES))
    matrix = np.array([[scale, 0, 256 - scale * x], [0, scale, 256 - scale * y]])
    return _jittered(cv2.warpAffine(image, matrix, (512, 512)))


def ssd(paths: Sequence[Path]) -> Image:
    """Colours in float32, a painted canvas, a crop, resized to 300 pixels."""
    image = _read(paths[0]).astype(np.float32)
    if coin():
        image += np.random.uniform(-32, 32)
    if coin():
        image *= np.random.uniform(0.5, 1.5)
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    if coin():
        hsv[..., 1] *= np.random.uniform(0.5, 1.5)
    if coin():
        hsv[..., 0] = (hsv[..., 0] + np.random.uniform(-18, 18)) % 360
    image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if coin():
        image = image[..., np.random.permutation(3)]
    mean = np.float32([104, 117, 123])
    if coin():
        ratio = np.random.uniform(1, 4)
        high, wide = (int(side * ratio) for side in image.shape[:2])
        y, x = (int(np.random.uniform(0, side * (ratio - 1))) for side in image.shape[:2])
        canvas = np.empty((high, wide, 3), np.float32)
        canvas[:] = mean
        canvas[y : y + image.shape[0], x : x + image.shape[1]] = image
        image = canvas
    if np.random.randint(6):
        h, w = (int(np.random.uniform(0.3, 1) * side) for side in image.shape[:2])
        y, x = np.random.randint(image.shape[0] - h + 1), np.random.randint(image.shape[1] - w + 1)
        image = image[y : y + h, x : x + w]
    image = image[:, ::-1] if coin() else image
    return _planes((cv2.resize(image, (300, 300)) - mean)[..., ::-1])


def darknet_mosaic(paths: Sequence[Path], size: int) -> Image:
    """Four whole tiles of the size of the input; a part of each is shown."""
    canvas = np.zeros((size, size, 3), np.uint8)
    cut = np.random.randint(int(0.2 * size), int(0.8 * size) + 1, 2)
    for number, path in enumerate(paths):
        image = _read(path)
        height, width = image.shape[:2]
        reach = np.multiply((width, width, height, height), 0.3)
        left, right, top, bottom = np.random.uniform(-reach, reach).astype(int)
        window = np.empty((height - top - bottom, width - left - right, 3), np.uint8)
        window[:] = cv2.mean(image)[:3]
        part = image[max(top, 0) : height - max(bottom, 0), max(left, 0) : width - max(right, 0)]
        y, x = max(-top, 0), max(-left, 0)
        window[y : y + part.shape[0], x : x + part.shape[1]] = part
        tile = cv2.resize(window, (size, size))
        tile = cv2.flip(tile, 1) if coin() else tile
        h, s, v = cv2.split(cv2.cvtColor(tile, cv2.COLOR_BGR2HSV))
        s = cv2.convertScaleAbs(s, alpha=scale_or_inverse(1.5))
        v = cv2.convertScaleAbs(v, alpha=scale_or_inverse(1.5))
        h = cv2.add(h, 179 * np.random.uniform(-0.1, 0.1))
        tile = cv2.cvtColor(cv2.merge((h, s, v)), cv2.COLOR_HSV2BGR)
        columns = slice(0, cut[0]) if number % 2 == 0 else slice(cut[0], size)
        rows = slice(0, cut[1]) if number < 2 else slice(cut[1], size)
        wide, high = columns.stop - columns.start, rows.stop - rows.start
        x, y = size - wide if number % 2 == 0 else 0, size - high if number < 2 else 0
        canvas[rows, columns] = tile[y : y + high, x : x + wide]
    return _planes(canvas)


def scaled_mosaic(paths: Sequence[Path], size: int) -> Image:
    """A painted canvas of twice the size, warped as a whole."""
    canvas = np.full((2 * size, 2 * size, 3), 114, np.uint8)
    for number, path in enumerate(paths):
        image = _read(path)
        ratio = size / max(image.shape)
        if ratio != 1:
            image = cv2.resize(image, None, fx=ratio, fy=ratio)
        high, wide = image.shape[:2]
        x, y = size - wide if number % 2 == 0 else size, size - high if number < 2 else size
        canvas[y : y + high, x : x + wide] = image
    gain = np.random.uniform(0.5, 1.5)
    x, y = np.random.uniform(0, size, 2) - gain * size
    matrix = np.array([[gain, 0, x], [0, gain, y]])
    image = cv2.warpAffine(canvas, matrix, (size, size), borderValue=(114, 114, 114))
    gains = np.random.uniform(-1, 1, 3) * [0.015, 0.7, 0.4] + 1
    levels = np.arange(256)
    tables = levels * gains[0] % 180, *(np.clip(levels * gain, 0, 255) for gain in gains[1:])
    planes = cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2HSV))
    pairs = zip(planes, tables, strict=True)
    hsv = cv2.merge([cv2.LUT(plane, table.astype(np.uint8)) for plane, table in pairs])
    image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    return _planes(image[:, ::-1] if coin() else image)


PLAIN: dict[str, Callable[[Sequence[Path], int], Image]] = {
    'CornerNet': lambda paths, _: corner_net(paths),
    'CenterNetPoints': lambda paths, _: center_net(paths),
    'SSD300-VOC': lambda paths, _: ssd(paths),
    'YOLOv4-mosaics': darknet_mosaic,
    **dict.fromkeys(('Scaled-CSP', 'Scaled-P5', 'Scaled-P6', 'Scaled-P7'), scaled_mosaic),
}
"""Pipeline -> its plain loader of four files and the side of the input."""
