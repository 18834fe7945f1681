"""Textures, and functions that place and blend drawn objects.

The textures are CC0 and public-domain images of scikit-image. The training and the validation split
use different parts of each.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.datasets.optional import packages_of

Image = NDArray[np.uint8]
"""(h, w, 3) BGR."""

SPLITS = ('train', 'val')
TEXTURES = (
    'brick', 'camera', 'cell', 'chelsea', 'coffee', 'grass', 'gravel', 'hubble_deep_field',
    'retina', 'rocket',
)  # fmt: skip
JPEG_QUALITY = 95
LUMA = np.array([0.114, 0.587, 0.299])  # of BGR, ITU-R BT.601


def load_textures() -> dict[str, list[Image]]:
    """Split -> textures: the left 65 % of each for training, the rest for validation."""
    with packages_of('demo'):
        from skimage import data

    halves: dict[str, list[Image]] = {split: [] for split in SPLITS}
    for name in TEXTURES:
        image = getattr(data, name)()
        image = np.ascontiguousarray(
            np.stack([image] * 3, -1) if image.ndim == 2 else image[..., ::-1]
        )
        cut = int(0.65 * image.shape[1])
        halves['train'].append(image[:, :cut])
        halves['val'].append(image[:, cut:])
    return halves


def background(rng: np.random.Generator, size: tuple[int, int], textures: list[Image]) -> Image:
    """Random crop of a random texture at a random scale, mirrored at the borders.

    Args:
        size: (h, w) of the result.
    """
    texture = textures[rng.integers(len(textures))]
    zoom = rng.uniform(0.6, 1.6)
    x, y = rng.uniform(0, texture.shape[1]), rng.uniform(0, texture.shape[0])
    crop = np.array([[zoom, 0, -x * zoom], [0, zoom, -y * zoom]])
    return cv2.warpAffine(texture, crop, size[::-1], borderMode=cv2.BORDER_REFLECT_101)


def contrasting_color(
    rng: np.random.Generator, background_level: float, min_contrast: float
) -> NDArray[np.int64]:
    """Random BGR colour whose grey level differs from that of the background.

    Args:
        background_level: Grey level from 0 to 255.
        min_contrast: Least difference of the grey levels.
    """
    drawn = rng.integers(0, 256, (64, 3))
    colors = np.vstack([drawn, [[0, 0, 0], [255, 255, 255]]])  # black or white always differs
    return colors[np.argmax(np.abs(colors @ LUMA - background_level) >= min_contrast)]


def overlap(a: list[float], b: list[float]) -> float:
    """Intersection of two xywh boxes, as a fraction of the smaller box."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0) / min(a[2] * a[3], b[2] * b[3])


def write_image(path: Path, image: Image) -> None:
    """Write a JPEG file.

    Raises:
        OSError: The file could not be written.
    """
    if not cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
        raise OSError(f'{path} could not be written; check the free disk space.')
