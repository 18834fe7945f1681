"""Convert the annotations of KITTI tracking to COCO files with videos: all frames, and halves.

FOLDER holds KITTI's ``data_tracking_image_2/training/image_02/<video>/*.png``, and
``label_02/<video>.txt`` or ``training/label_02/<video>.txt``. The tool writes
``annotations/tracking_train.json``, ``tracking_train_half.json`` and ``tracking_val_half.json`` for
``IdentityVideoDataset``. The halves are those of CenterTrack: a video of n frames is split before
frame n // 2.
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
        FileNotFoundError: The images or the labels are missing.
        ValueError: A label is not one of KITTI's.
    """
    labels = next((root / each for each in LABELS if (root / each).is_dir()), None)
    if labels is None or not (root / IMAGES).is_dir():
        raise FileNotFoundError(
            f'{root} has no {IMAGES}/ or no {LABELS[0]}/; unpack KITTI tracking there.'
        )
    videos = sorted(path for path in (root / IMAGES).iterdir() if path.is_dir())
    (root / 'annotations').mkdir(exist_ok=True)
    written = []
    for name, part in (('train', None), ('train_half', 0), ('val_half', 1)):
        content: dict[str, list[Any]] = {
            'videos': [],
            'images': [],
            'annotations': [],
            'categories': [{'id': i, 'name': each} for i, each in enumerate(CLASSES, 1)],
        }
        for video in videos:
            add_video(content, video, read_labels(labels / f'{video.name}.txt'), part)
        written.append(root / 'annotations' / f'tracking_{name}.json')
        written[-1].write_text(json.dumps(content) + '\n')
    return written


def read_labels(path: Path) -> dict[int, list[dict[str, Any]]]:
    """Frame -> annotations: xywh boxes in pixels, and ``track_id`` from 0 (DontCare has none)."""
    found = defaultdict(list)
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fields = line.split()
        name = SAME.get(fields[2], fields[2]) if len(fields) > 9 else None
        if name not in CLASSES:
            raise ValueError(
                f'line {number} of {path} is not a label of KITTI tracking (frame, identity, '
                f'class, ..., box from field 7 on): {line!r}.'
            )
        x1, y1, x2, y2 = (float(value) for value in fields[6:10])
        label = {'category_id': CLASSES.index(name) + 1, 'bbox': [x1, y1, x2 - x1, y2 - y1]}
        if int(fields[1]) >= 0:
            label['track_id'] = int(fields[1])
        found[int(fields[0])].append(label)
    return found


def add_video(
    content: dict[str, list[Any]], video: Path, labels: dict[int, list[dict]], part: int | None
) -> None:
    """Add a video, or its first half (0) or second half (1)."""
    frames = sorted(video.glob('*.png'))
    middle = len(frames) // 2
    frames = {None: frames, 0: frames[:middle], 1: frames[middle:]}[part]
    number = len(content['videos']) + 1
    content['videos'].append({'id': number, 'name': video.name})
    if not frames:
        return
    height, width = cv2.imread(str(frames[0])).shape[:2]
    for path in frames:
        image = {'id': len(content['images']) + 1, 'file_name': f'{video.name}/{path.name}'}
        place = {'video_id': number, 'frame_id': int(path.stem)}
        content['images'].append({**image, **place, 'height': height, 'width': width})
        for label in labels.get(int(path.stem), []):
            area = label['bbox'][2] * label['bbox'][3]
            count = {'id': len(content['annotations']) + 1, 'image_id': image['id'], 'iscrowd': 0}
            content['annotations'].append({**count, **label, 'area': area})


def main() -> None:
    """Convert; a missing file or a wrong label prints one message and exits with 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path, help='folder of KITTI tracking')
    try:
        print('\n'.join(str(path) for path in convert(parser.parse_args().folder)))
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
