"""Pictures of tracks: boxes with identities, and where each has been."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Point = tuple[float, float]


def identity_colour(number: int) -> tuple[int, int, int]:
    """A bright BGR colour; neighbouring identities differ by the golden angle of the hue."""
    rgb = colorsys.hsv_to_rgb(number * 0.381966 % 1, 0.75, 1.0)
    return tuple(int(255 * value) for value in rgb[::-1])


def draw_tracks(
    picture: Picture,
    boxes: Any,
    ids: Sequence[int],
    trails: dict[int, list[Point]] | None = None,
    factor: int = 1,
) -> Picture:
    """An enlarged copy with a box, the identity and the trail of every track.

    Args:
        picture: (h, w, 3) BGR.
        boxes: (n, 4) xyxy in its pixels.
        ids: n identities.
        trails: identity -> earlier centres; the present ones are appended to it.
        factor: pixels for one.
    """
    shown = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    for box, number in zip(np.asarray(boxes, float).reshape(-1, 4) * factor, ids, strict=True):
        colour = identity_colour(int(number))
        x1, y1, x2, y2 = (round(value) for value in box)
        cv2.rectangle(shown, (x1, y1), (x2 - 1, y2 - 1), colour, 2)
        if trails is not None:
            trail = trails.setdefault(int(number), [])
            trail.append(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
            points = np.round(trail[-8:]).astype(np.int32)
            cv2.polylines(shown, [points], False, colour, 2, cv2.LINE_AA)
        place = max(x1, 1), max(y1 - 4, 12)
        for ink, thickness in (((0, 0, 0), 4), (colour, 1)):
            font = cv2.FONT_HERSHEY_SIMPLEX
            cv2.putText(shown, str(int(number)), place, font, 0.5, ink, thickness, cv2.LINE_AA)
    return shown


def write_rows(path: str | Path, cells: Sequence[Picture], columns: int) -> None:
    """Write cells of one size as rows with black borders; the last row is filled up.

    Raises:
        OSError: the picture could not be written.
    """
    cells = [cv2.copyMakeBorder(cell, 2, 2, 2, 2, cv2.BORDER_CONSTANT) for cell in cells]
    cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    lines = [np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)]
    if not cv2.imwrite(str(path), np.vstack(lines)):
        raise OSError(f'{path} could not be written: is the disk full, the folder there?')
