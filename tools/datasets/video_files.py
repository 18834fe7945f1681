"""Files of a drawn tracking data set: MOT Challenge's text files and COCO with videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from mmdet_losses.visualization.tracks import draw_tracks, write_rows
from tools.datasets.drawing import SPLITS, Image, write_image
from tools.datasets.folder import write_json

MIN_VISIBILITY = 0.25  # of an object that counts, as in the official MOT17 recipe
FRAME_RATE = 10


class TrackedBox(NamedTuple):
    """An object in a frame."""

    identity: int
    """Within the video, from 1."""
    box: list[float]
    """xywh in pixels of the whole object, also where it is hidden or outside the image."""
    visibility: float
    """Fraction of the object that is inside the image and not hidden."""

    @property
    def counts(self) -> int:
        """1 if the object counts in the evaluation, else 0."""
        return int(self.visibility >= MIN_VISIBILITY)


class VideoWriter:
    """Writes the videos of a split, and collects their annotations.

    Args:
        root: Folder of the data set.
        split: Name of the split.
        size: (h, w) of a frame.
    """

    def __init__(self, root: Path, split: str, size: tuple[int, int]) -> None:
        self.root, self.split, self.size = root, split, size
        self.videos: list[dict[str, Any]] = []
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.identities = 0

    def add(self, frames: list[Image], tracks: list[list[TrackedBox]]) -> None:
        """Write a video and its text files."""
        number = len(self.videos) + 1
        name, (height, width) = f'{self.split}-{number:03d}', self.size
        folder = self.root / self.split / name
        for part in ('img1', 'gt'):
            (folder / part).mkdir(parents=True)
        self.videos.append({'id': number, 'name': name, 'fps': FRAME_RATE})
        rows, start = [], self.identities
        for frame, (image, boxes) in enumerate(zip(frames, tracks, strict=True)):
            file_name = f'{name}/img1/{frame + 1:06d}.jpg'
            write_image(self.root / self.split / file_name, image)
            entry = {'id': len(self.images) + 1, 'video_id': number, 'frame_id': frame}
            size = {'height': height, 'width': width}
            self.images.append({**entry, 'file_name': file_name, **size})
            for each in boxes:
                rows.append((frame + 1, each))
                self.identities = max(self.identities, start + each.identity)
                self.annotations.append(self._annotation(entry['id'], start + each.identity, each))
        _write_gt(folder, rows)
        _write_seqinfo(folder, name, len(frames), self.size)

    def _annotation(self, image_id: int, identity: int, tracked: TrackedBox) -> dict[str, Any]:
        return {
            'id': len(self.annotations) + 1,
            'image_id': image_id,
            'category_id': 1,
            'bbox': tracked.box,
            'area': tracked.box[2] * tracked.box[3],
            'iscrowd': 0,
            'instance_id': identity,
            'visibility': round(tracked.visibility, 4),
            'mot_conf': tracked.counts,
        }

    def write_annotations(self) -> None:
        """Write ``annotations/<split>.json``."""
        (self.root / 'annotations').mkdir(exist_ok=True)
        write_json(
            self.root / 'annotations' / f'{self.split}.json',
            {
                'info': {'description': 'Moving handwritten digits on CC0 and public textures'},
                'videos': self.videos,
                'images': self.images,
                'annotations': self.annotations,
                'categories': [{'id': 1, 'name': 'digit'}],
                'num_instances': self.identities,
            },
        )


def _write_gt(folder: Path, rows: list[tuple[int, TrackedBox]]) -> None:
    """Write ``gt/gt.txt`` of MOT Challenge; pixels count from 0, as its converters expect."""
    lines = []
    for frame, tracked in sorted(rows, key=lambda row: (row[1].identity, row[0])):
        x, y, w, h = tracked.box
        lines.append(
            f'{frame},{tracked.identity},{x:g},{y:g},{w:g},{h:g},{tracked.counts},1,'
            f'{tracked.visibility:.4f}\n'
        )
    (folder / 'gt' / 'gt.txt').write_text(''.join(lines))


def _write_seqinfo(folder: Path, name: str, frames: int, size: tuple[int, int]) -> None:
    """Write ``seqinfo.ini`` of MOT Challenge."""
    lines = {
        'name': name,
        'imDir': 'img1',
        'frameRate': FRAME_RATE,
        'seqLength': frames,
        'imWidth': size[1],
        'imHeight': size[0],
        'imExt': '.jpg',
    }
    text = ''.join(f'{key}={value}\n' for key, value in lines.items())
    (folder / 'seqinfo.ini').write_text('[Sequence]\n' + text)


def write_sheet(root: Path, rows: int = 4, columns: int = 6) -> None:
    """Draw consecutive frames with boxes and identities into ``sheet.png``, one row per video."""
    cells = []
    for split in SPLITS:
        content = json.loads((root / 'annotations' / f'{split}.json').read_text())
        for video in content['videos'][: rows // 2]:
            entries = [each for each in content['images'] if each['video_id'] == video['id']]
            first = max(0, len(entries) // 2 - columns // 2)
            for entry in entries[first : first + columns]:
                found = [a for a in content['annotations'] if a['image_id'] == entry['id']]
                found = [a for a in found if a['mot_conf']]
                boxes = np.array([a['bbox'] for a in found]).reshape(-1, 4)
                boxes[:, 2:] += boxes[:, :2]
                image = cv2.imread(str(root / split / entry['file_name']))
                identities = [a['instance_id'] for a in found]
                cells.append(draw_tracks(image, boxes, identities, factor=2))
            cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    write_rows(root / 'sheet.png', cells, columns)
