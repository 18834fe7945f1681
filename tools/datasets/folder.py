"""Folders of drawn data sets: complete or absent, in COCO format, with a sheet of examples."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tools.datasets.command_line import show_progress
from tools.datasets.drawing import SPLITS, Image, write_image


def make_once(
    out: str | Path, kind: str, parameters: dict[str, Any], fill: Callable[[Path], None]
) -> Path:
    """Make a data set, or find that it was made with the same parameters.

    The data set is made in a temporary folder, so ``out`` exists only when it is complete.

    Args:
        out: Folder of the data set; its ``parameters.json`` holds the parameters.
        kind: The data set in words, for example 'a digits data set'.
        parameters: Everything that the data set depends on, as JSON types.
        fill: Writes the data set into the folder that it is given.

    Raises:
        FileExistsError: ``out`` holds something else, or was made with other parameters.
    """
    out, parameters = Path(out), json.loads(json.dumps(parameters))
    if _is_made(out, kind, parameters):
        print(f'{out} already holds this data set; nothing to do.')
        return out
    partial = out.with_name(out.name + '.partial')
    if (partial / 'parameters.json').exists():
        print(f'Removing {partial}, which an interrupted run left.')
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    write_json(partial / 'parameters.json', parameters)
    fill(partial)
    partial.rename(out)
    print(f'Done: {out} (examples: {out / "sheet.png"}).')
    return out


def _is_made(out: Path, kind: str, parameters: dict[str, Any]) -> bool:
    if not out.exists():
        return False
    fix = f'remove {out} or choose another folder with --out'
    try:
        found = json.loads((out / 'parameters.json').read_text())
    except (OSError, ValueError):
        raise FileExistsError(f'{out} exists and is not {kind}; {fix}.') from None
    changed = [
        f'{key}={found.get(key)} instead of {value}'
        for key, value in parameters.items()
        if found.get(key) != value
    ]
    if changed:
        raise FileExistsError(f'{out} was made with {", ".join(changed)}; {fix}.')
    return True


def write_split(
    root: Path,
    split: str,
    options: Any,
    draw: Callable[[np.random.Generator], tuple[Image, list[dict[str, Any]]]],
    description: str,
    categories: list[dict[str, Any]],
) -> None:
    """Draw a split into ``<split>/`` and ``annotations/<split>.json`` (COCO), with ids from 1.

    Args:
        options: Has ``train`` and ``val`` (numbers of images), ``size`` (h, w) and ``seed``. Image
            i does not depend on the number of images.
        draw: Returns an image and its annotations, without ids and ``iscrowd``.
    """
    (root / split).mkdir()
    count, (height, width) = getattr(options, split), options.size
    images, annotations, start = [], [], time.monotonic()
    for i in range(count):
        rng = np.random.default_rng([options.seed, SPLITS.index(split), i])
        image, found = draw(rng)
        name = f'{i:06d}.jpg'
        write_image(root / split / name, image)
        images.append({'id': i + 1, 'file_name': name, 'height': height, 'width': width})
        annotations += [{'image_id': i + 1, **each} for each in found]
        show_progress(split, i + 1, count, start, 'images')
    (root / 'annotations').mkdir(exist_ok=True)
    write_json(
        root / 'annotations' / f'{split}.json',
        {
            'info': {'description': description},
            'images': images,
            'annotations': [{'id': i, 'iscrowd': 0, **a} for i, a in enumerate(annotations, 1)],
            'categories': categories,
        },
    )


def write_sheet(
    root: Path,
    draw_annotation: Callable[[Image, dict[str, Any], int], None],
    rows: int = 4,
    columns: int = 6,
) -> None:
    """Draw the first images of both splits with their annotations into ``sheet.png``.

    Args:
        draw_annotation: Draws an annotation into an enlarged image; its third argument is the
            enlargement factor.
    """
    cells: list[Image] = []
    for split in SPLITS:
        content = json.loads((root / 'annotations' / f'{split}.json').read_text())
        for entry in content['images'][: rows // 2 * columns]:
            image = cv2.imread(str(root / split / entry['file_name']))
            factor = max(1, round(240 / max(image.shape[:2])))
            image = cv2.resize(image, None, fx=factor, fy=factor)
            for annotation in content['annotations']:
                if annotation['image_id'] == entry['id']:
                    draw_annotation(image, annotation, factor)
            cells.append(cv2.copyMakeBorder(image, 2, 2, 2, 2, cv2.BORDER_CONSTANT))
        cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    lines = [np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)]
    cv2.imwrite(str(root / 'sheet.png'), np.vstack(lines))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write one line of JSON."""
    path.write_text(json.dumps(content) + '\n')
