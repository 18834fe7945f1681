"""Drawing of tracks: boxes with identities, and the latest positions of each object."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Point = tuple[float, float]
TRAIL = 8
"""Number of positions that are drawn per object."""


def identity_colour(identity: int) -> tuple[int, int, int]:
    """BGR colour; consecutive identities differ by the golden angle in hue.

    Eight hues differ clearly. The next identities have a paler colour, then a darker one.
    """
    saturation, value = ((0.9, 1.0), (0.45, 1.0), (0.9, 0.6))[identity // 8 % 3]
    red, green, blue = colorsys.hsv_to_rgb(identity * 0.381966 % 1, saturation, value)
    return int(255 * blue), int(255 * green), int(255 * red)


def draw_tracks(
    image: Image,
    boxes: Any,
    identities: Sequence[int],
    trails: dict[int, list[Point]] | None = None,
    factor: int = 1,
) -> Image:
    """Enlarged copy of an image with box, identity and latest positions of every track.

    Args:
        image: (h, w, 3) BGR.
        boxes: (n, 4) xyxy in its pixels.
        identities: n identities.
        trails: Identity -> earlier centres; the current centres are appended.
        factor: Enlargement.
    """
    drawn = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    scaled = np.asarray(boxes, float).reshape(-1, 4) * factor
    width = max(2, round(max(drawn.shape) / 400))  # readable on a large image
    size, stroke = max(0.5, max(drawn.shape) / 1280), max(1, width // 2)
    for box, identity in zip(scaled, map(int, identities), strict=True):
        colour = identity_colour(identity)
        x1, y1, x2, y2 = (round(value) for value in box)
        cv2.rectangle(drawn, (x1, y1), (x2 - 1, y2 - 1), colour, width)
        if trails is not None:
            trail = trails.setdefault(identity, [])
            trail.append(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
            points = np.round(trail[-TRAIL:]).astype(np.int32)
            cv2.polylines(drawn, [points], False, colour, width, cv2.LINE_AA)
        place = max(x1, 1), max(y1 - 4, round(24 * size))
        for ink, thickness in (((0, 0, 0), 3 * stroke + 1), (colour, stroke)):
            font = cv2.FONT_HERSHEY_SIMPLEX
            cv2.putText(drawn, str(identity), place, font, size, ink, thickness, cv2.LINE_AA)
    return drawn


def write_rows(path: str | Path, cells: Sequence[Image], columns: int) -> None:
    """Write images of one size in rows, with black borders; the last row is filled with black.

    Raises:
        OSError: The file could not be written.
    """
    cells = [cv2.copyMakeBorder(cell, 2, 2, 2, 2, cv2.BORDER_CONSTANT) for cell in cells]
    cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    lines = [np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)]
    if not cv2.imwrite(str(path), np.vstack(lines)):
        raise OSError(f'{path} could not be written; check the folder and the free disk space.')
