"""The file of a set of draws: fixed images and boxes, and what an augmentation made of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FIXED = ('boxes', 'box_image', 'box_class', 'about')


class Scene(NamedTuple):
    """The images that are augmented, and their boxes."""

    images: list[NDArray[np.uint8]]
    """(h, w, 3) R, G, B."""
    boxes: NDArray[np.float64]
    """(K, 4) xyxy in pixels of the box's image."""
    box_image: NDArray[np.int64]
    """(K,) number of the image."""
    about: dict[str, Any]
    """Options of the official program. Videos: ``key_frame`` and ``frame_boxes``; poses:
    ``keypoints`` (K, 3, 3) of three keypoints."""

    @property
    def name(self) -> str:
        """What was augmented, such as ``cornernet``."""
        return str(self.about.get('name', ''))

    @property
    def input_size(self) -> tuple[int, int] | None:
        """(w, h) of the network's input; None where it is drawn."""
        size = self.about.get('input') or self.about.get('cfg', {}).get('size')
        if isinstance(size, str):
            return (int(size), int(size)) if size.isdigit() else None
        return (int(size[0]), int(size[1])) if size else None

    @property
    def size_rule(self) -> dict[str, float]:
        """Arguments of ``DrawnSizeBatchSampler`` where sizes are drawn around that of the cfg."""
        text = str(self.about.get('cfg', {}).get('size', ''))
        found = re.match(r'(\d+), random=.*rand_scale\(([\d.]+)\)', text)
        return dict(size=int(found[1]), reach=float(found[2])) if found else {}


def read_scene(path: Path) -> Scene:
    """The fixed part of a file of draws."""
    with np.load(path, allow_pickle=False) as file:
        count = sum(key.startswith('image') and key.endswith('_rgb') for key in file.files)
        about = json.loads(str(file['about']))
        about.setdefault('name', path.stem)
        images = [file[f'image{i}_rgb'] for i in range(count)]
        return Scene(images, file['boxes'], file['box_image'], about)


def read_draws(path: Path) -> dict[str, NDArray[np.float64]]:
    """The drawn arrays of a file, one row per draw."""
    with np.load(path, allow_pickle=False) as file:
        return {
            key: file[key].astype(np.float64)
            for key in file.files
            if key not in FIXED and not key.startswith('image')
        }


def write_draws(path: Path, scene: Scene, draws: dict[str, NDArray[np.floating]]) -> None:
    """A file in the layout of the official ones."""
    images = {f'image{i}_rgb': image for i, image in enumerate(scene.images)}
    np.savez_compressed(
        path,
        **{key: each.astype(np.float32) for key, each in draws.items()},
        **images,
        boxes=scene.boxes,
        box_image=scene.box_image,
        box_class=np.arange(len(scene.boxes)),
        about=np.array(json.dumps(scene.about)),
    )
