"""Write the annotations of KITTI tracking as COCO files with videos, whole and in halves.

FOLDER holds KITTI's ``data_tracking_image_2/training/image_02/<video>/*.png`` and
``label_02/<video>.txt`` (``training/label_02`` is found too). Written are
``annotations/tracking_train.json``, ``tracking_train_half.json`` and ``tracking_val_half.json``,
which ``IdentityVideoDataset`` reads. The halves are CenterTrack's: a video of n frames is cut
before frame n // 2.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2

CLASSES = (
    'Pedestrian', 'Car', 'Cyclist', 'Van', 'Truck', 'Person_sitting', 'Tram', 'Misc', 'DontCare',
)  # fmt: skip
SAME = {'Person': 'Person_sitting'}
IMAGES = Path('data_tracking_image_2/training/image_02')
LABELS = (
    Path('label_02'),
    Path('training/label_02'),
    Path('data_tracking_label_2/training/label_02'),
)


def convert(root: Path) -> list[Path]:
    """Write the three files; returns their paths.

    Raises:
        FileNotFoundError: pictures or labels are not there.
        ValueError: a label that is none of KITTI's.
    """
    labels = next((root / each for each in LABELS if (root / each).is_dir()), None)
    if labels is None or not (root / IMAGES).is_dir():
        raise FileNotFoundError(f'{root} needs {IMAGES}/ and {LABELS[0]}/ of KITTI tracking.')
    videos = sorted(path for path in (root / IMAGES).iterdir() if path.is_dir())
    (root / 'annotations').mkdir(exist_ok=True)
    written = []
    for name, part in (('train', None), ('train_half', 0), ('val_half', 1)):
        truth: dict[str, list[Any]] = {
            'videos': [],
            'images': [],
            'annotations': [],
            'categories': [{'id': i, 'name': each} for i, each in enumerate(CLASSES, 1)],
        }
        for video in videos:
            add_video(truth, video, read_labels(labels / f'{video.name}.txt'), part)
        written.append(root / 'annotations' / f'tracking_{name}.json')
        written[-1].write_text(json.dumps(truth) + '\n')
    return written


def read_labels(path: Path) -> dict[int, list[dict[str, Any]]]:
    """Frame -> annotations; boxes xywh in pixels, ``track_id`` from 0 on, none for DontCare."""
    notes = defaultdict(list)
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fields = line.split()
        name = SAME.get(fields[2], fields[2]) if len(fields) > 9 else None
        if name not in CLASSES:
            raise ValueError(
                f'line {number} of {path} is no label of KITTI tracking (frame, identity, class, '
                f'..., box from field 7 on): {line!r}.'
            )
        x1, y1, x2, y2 = (float(value) for value in fields[6:10])
        note = {'category_id': CLASSES.index(name) + 1, 'bbox': [x1, y1, x2 - x1, y2 - y1]}
        if int(fields[1]) >= 0:
            note['track_id'] = int(fields[1])
        notes[int(fields[0])].append(note)
    return notes


def add_video(
    truth: dict[str, list[Any]], video: Path, notes: dict[int, list[dict]], part: int | None
) -> None:
    """Add a video, or its first (0) or second (1) half."""
    frames = sorted(video.glob('*.png'))
    middle = len(frames) // 2
    frames = {None: frames, 0: frames[:middle], 1: frames[middle:]}[part]
    number = len(truth['videos']) + 1
    truth['videos'].append({'id': number, 'name': video.name})
    if not frames:
        return
    height, width = cv2.imread(str(frames[0])).shape[:2]
    for path in frames:
        image = {'id': len(truth['images']) + 1, 'file_name': f'{video.name}/{path.name}'}
        place = {'video_id': number, 'frame_id': int(path.stem)}
        truth['images'].append({**image, **place, 'height': height, 'width': width})
        for note in notes.get(int(path.stem), []):
            area = note['bbox'][2] * note['bbox'][3]
            count = {'id': len(truth['annotations']) + 1, 'image_id': image['id'], 'iscrowd': 0}
            truth['annotations'].append({**count, **note, 'area': area})


def main() -> None:
    """Command line; a refusal is one sentence and exit code 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path, help='where KITTI tracking lies')
    try:
        print('\n'.join(str(path) for path in convert(parser.parse_args().folder)))
    except (OSError, ValueError) as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
