"""Import of a data set: checks, splits, files in COCO format, and a sheet of drawn images."""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from mmengine.structures import InstanceData
from PIL import Image, ImageOps

from mmdet_losses.data.words import plural
from mmdet_losses.visualization.sheets import GT_COLOR, IGNORED_COLOR, draw_boxes
from tools.datasets.formats import READERS, find_format
from tools.datasets.source import Box, ImportFault, Item, Source

ORDER = ('train', 'val', 'test')
PANELS = 12
"""Images on the sheet."""


class Shares(NamedTuple):
    """Shares of a random split."""

    val: float = 0.2
    test: float = 0.0
    seed: int = 0


class Imported(NamedTuple):
    """What was imported."""

    form: str
    classes: list[str]
    splits: dict[str, list[Item]]
    messages: list[str]
    """Problems with their numbers."""


def read(source: Source, form: str | None = None, shares: Shares | None = None) -> Imported:
    """Read, check and split a source.

    Raises:
        ImportFault: there is no usable image or object.
    """
    form = form or find_format(source)
    try:
        items = [clean(item, source) for item in READERS[form](source)]
    except ImportFault:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        reason = f'{type(error).__name__}: {error}'
        raise ImportFault(
            f'{source.path} is not a complete data set in the format {form} ({reason}); export it '
            'again, or choose another --format.'
        ) from error
    items = _without_copies(items, source)
    labels = Counter(box.label for item in items for box in item.boxes)
    if not labels:
        raise ImportFault(
            f'{source.path} has {plural(len(items), "usable image")} in the format {form}, but no '
            'usable object'
            + ''.join(f'; {message}' for message in source.messages())
            + '. Check the format with --format, and the folder of the images with --images.'
        )
    classes = [*source.classes, *sorted(set(labels) - set(source.classes))]
    splits = split(items, shares or Shares(), source)
    messages = [*source.messages(), *_class_messages(classes, labels, splits)]
    return Imported(form, classes, splits, messages)


def clean(item: Item, source: Source) -> Item:
    """The image with clipped boxes; boxes that nothing can be learned from are left out."""
    width, height = item.size
    kept: list[Box] = []
    for box in item.boxes:
        x1, y1, x2, y2 = box.xyxy
        if not all(map(math.isfinite, box.xyxy)):
            source.fault('boxes that are not finite, left out', item.path.name)
            continue
        clipped = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
        if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
            source.fault('boxes without area inside the image, left out', item.path.name)
        elif min(clipped[2] - clipped[0], clipped[3] - clipped[1]) < 1:
            source.fault('boxes smaller than a pixel, left out', item.path.name)
        elif box._replace(xyxy=clipped) in kept:
            source.fault('boxes that are in the file twice, kept once', item.path.name)
        else:
            if max(abs(a - b) for a, b in zip(box.xyxy, clipped)) > 1:
                source.fault('boxes that leave the image, clipped', item.path.name)
            kept.append(box._replace(xyxy=clipped))
    return item._replace(boxes=kept)


def _without_copies(items: Sequence[Item], source: Source) -> list[Item]:
    """One item per content of an image file: a copy in two splits would make the AP too high."""
    found: dict[str, Item] = {}
    for item in items:
        digest = hashlib.sha256(item.path.read_bytes()).hexdigest()
        if digest in found:
            source.fault('images with the content of another image, left out', item.path.name)
        found.setdefault(digest, item)
    return list(found.values())


def split(items: Sequence[Item], shares: Shares, source: Source) -> dict[str, list[Item]]:
    """The splits of the source, or a random split.

    Copies of one image that Roboflow augmented stay in one split. A source with a training and a
    test part only is tested on its test part.

    Raises:
        ImportFault: there are fewer than two images.
    """
    parts = {name: [item for item in items if item.split == name] for name in ORDER}
    if parts['train'] and (parts['val'] or parts['test']):
        loose = sum(item.split is None for item in items)
        if loose:
            source.fault('images outside the splits, left out', f'{loose} in all')
        if not parts['val']:
            parts['val'], parts['test'] = parts['test'], []
        return {name: part for name, part in parts.items() if part}
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.path.stem.partition('.rf.')[0], []).append(item)
    names = sorted(groups)
    random.Random(shares.seed).shuffle(names)
    if len(names) < 2:
        raise ImportFault(f'{source.path} has {len(names)} image; a split needs at least two.')
    val = max(1, round(len(names) * shares.val))
    test = round(len(names) * shares.test)
    if val + test >= len(names):
        raise ImportFault(
            f'--val {shares.val:g} and --test {shares.test:g} leave none of {len(names)} images '
            'for training; choose smaller shares.'
        )
    chosen = {'train': names[val + test :], 'val': names[:val], 'test': names[val : val + test]}
    return {
        part: sorted((item for name in of for item in groups[name]), key=lambda item: item.path)
        for part, of in chosen.items()
        if of
    }


def _class_messages(
    classes: Sequence[str], labels: Counter[str], splits: dict[str, list[Item]]
) -> list[str]:
    messages = []
    empty = [name for name in classes if not labels[name]]
    if empty:
        count = plural(len(empty), 'class has', 'classes have')
        messages.append(f'{count} no object: {", ".join(empty[:5])}')
    spelled: dict[str, list[str]] = {}
    for name in classes:
        spelled.setdefault(name.lower().replace(' ', '').replace('_', ''), []).append(name)
    messages += [
        f'{" and ".join(names)} may be one class; use one name in the source'
        for names in spelled.values()
        if len(names) > 1
    ]
    for part, items in splits.items():
        here = {box.label for item in items for box in item.boxes}
        missing = [name for name in classes if labels[name] and name not in here]
        if missing and part != 'test':
            messages.append(f'the {part} split has no object of {", ".join(missing[:5])}')
    return messages


def write(imported: Imported, source: Source, out: Path) -> None:
    """Write ``images/``, one COCO file per split, and ``sheet.png``.

    Images are hard links where the file system allows it, otherwise copies.

    Raises:
        ImportFault: ``out`` is not an empty or new folder, or is inside the source.
    """
    if out.exists() and not (out.is_dir() and next(out.iterdir(), None) is None):
        raise ImportFault(f'{out} is not an empty folder; choose another --out.')
    if source.path in (out.resolve(), *out.resolve().parents) and source.image_root == source.path:
        raise ImportFault(f'{out} is inside {source.path}; choose an --out outside of it.')
    number = {name: i for i, name in enumerate(imported.classes, start=1)}
    for part, items in imported.splits.items():
        images, annotations = [], []
        for image_id, item in enumerate(items, start=1):
            name = item.path.relative_to(source.image_root).as_posix()
            _link(item.path, out / 'images' / name)
            width, height = item.size
            images.append(dict(id=image_id, file_name=name, width=width, height=height))
            for box in item.boxes:
                x1, y1, x2, y2 = (round(value, 3) for value in box.xyxy)
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=image_id,
                        category_id=number[box.label],
                        bbox=[x1, y1, round(x2 - x1, 3), round(y2 - y1, 3)],
                        area=round((x2 - x1) * (y2 - y1), 3),
                        iscrowd=int(box.ignored),
                    )
                )
        categories = [dict(id=i, name=name) for name, i in number.items()]
        content = dict(images=images, annotations=annotations, categories=categories)
        (out / f'{part}.json').write_text(json.dumps(content))
    sheet(imported.splits['train'], imported.classes).savefig(out / 'sheet.png', dpi=90)


def _link(image: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(image, target)
    except OSError:
        shutil.copyfile(image, target)


def sheet(items: Sequence[Item], classes: Sequence[str]) -> Figure:
    """Up to 12 images with their boxes; ignored regions are grey and dashed."""
    count = min(PANELS, len(items))
    chosen = [items[i * len(items) // count] for i in range(count)]
    columns = min(4, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(3.6 * columns, 3 * rows), layout='constrained')
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels:
        axes.set_axis_off()
    for axes, item in zip(panels, chosen):
        with Image.open(item.path) as opened:
            image = ImageOps.exif_transpose(opened).convert('RGB')
        scale = min(1.0, 480 / max(image.size))
        small = image.resize([max(1, round(side * scale)) for side in image.size])
        axes.imshow(np.asarray(small))
        axes.set_title(f'{item.path.name}: {len(item.boxes)}', fontsize=8)
        for ignored, color, style in ((False, GT_COLOR, '-'), (True, IGNORED_COLOR, '--')):
            boxes = [box for box in item.boxes if box.ignored == ignored]
            instances = InstanceData(
                bboxes=np.array([box.xyxy for box in boxes]).reshape(-1, 4) * scale,
                labels=np.array([classes.index(box.label) for box in boxes], int),
            )
            draw_boxes(axes, instances, classes, color, style=style)
    return figure


def table(imported: Imported) -> list[str]:
    """One line per split: numbers of images, of boxes, and of boxes per class."""
    lines = []
    for part, items in imported.splits.items():
        counts = Counter(box.label for item in items for box in item.boxes)
        classes = ', '.join(f'{name} {counts[name]:,}' for name in imported.classes[:8])
        more = ', ...' if len(imported.classes) > 8 else ''
        lines.append(
            f'{part:5} {len(items):6,} images {sum(counts.values()):8,} boxes: {classes}{more}'
        )
    return lines
