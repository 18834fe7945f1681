"""Predict images, videos or a camera with a trained detector: boxes, keypoints or tracks.

SOURCE is an image, a folder, a pattern in quotes ('data/**/*.jpg'), a video, or webcam[:NUMBER].
Images with the predictions are written to --out, videos as one .mp4 file. The objects of a single
image are also printed, one per line: class and score.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdet_losses import engine

# isort: split
from mmengine.config import Config
from mmengine.structures import InstanceData

from mmdet_losses.data.darknet_jpeg import read_darknet_image
from mmdet_losses.data.words import plural
from mmdet_losses.engine.media import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    Frame,
    ImageFiles,
    Media,
    open_media,
)
from mmdet_losses.engine.predictor import Predictor
from mmdet_losses.engine.progress import show_progress
from mmdet_losses.visualization.predictions import VideoFile, draw_predictions


def share(text: str) -> float:
    """A number from 0 to 1, for argparse."""
    if not 0 <= (value := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f'{text} is not between 0 and 1')
    return value


def count(text: str) -> int:
    """A number from 1, for argparse."""
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f'{text} is not 1 or more')
    return value


def check_device(name: str) -> None:
    """Put a tensor on the device.

    Raises:
        UsageError: PyTorch cannot use it.
    """
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:  # a build without CUDA raises the second one
        reason = str(error).partition('\n')[0].rstrip('. ')
        raise engine.UsageError(
            f'--device {name} cannot be used ({reason}); choose cpu or another device.'
        ) from None


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    engine.add_config_arguments(parser)
    add = parser.add_argument
    add('checkpoint', help='checkpoint file or URL')
    add('source', metavar='SOURCE', help='image, folder, pattern, video or webcam[:NUMBER]')
    add('--out', type=Path, default=Path('predictions'), help='folder of the results')
    add('--json', action='store_true', help='also write predictions.json')
    add('--print', action='store_true', help='print the objects of every image')
    add('--crop', action='store_true', help='also write every object as an image, by class')
    add('--show', action='store_true', help='show the results in a window; q closes it')
    add('--no-images', action='store_true', help='write no images and no video')
    add('--score', type=share, default=0.3, help='lowest score (default: %(default)s)')
    add('--classes', nargs='+', metavar='NAME', help='only these classes')
    add('--frames', type=count, help='stop after this number of images or frames')
    add(
        '--decoder',
        choices=('opencv', 'darknet'),
        help='of JPEG files; default: darknet for a single image and a config with its test input '
        '(one second per megapixel), otherwise opencv',
    )
    add('--batch-size', type=count, default=1, help='images per step (default: %(default)s)')
    add('--device', help='for example cpu or cuda:1; default: a GPU if there is one')
    args = parser.parse_args(argv)
    if args.out.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES, '.json'):
        parser.error(f'--out is {args.out}; give the name of a folder')
    return args


class Results:
    """Writes the results of one source, and counts them."""

    def __init__(self, args: argparse.Namespace, predictor: Predictor, media: Media) -> None:
        self.args, self.predictor, self.media = args, predictor, media
        self.records: list[dict[str, Any]] = []
        self.counts: Counter[str] = Counter()
        self.lines: list[str] | None = [] if args.print or media.total == 1 else None
        self.frames = 0
        self.trails: dict[int, Any] = {}
        self.video: VideoFile | None = None
        args.out.mkdir(parents=True, exist_ok=True)
        if media.is_video and not args.no_images:
            self.video = VideoFile(args.out / f'{media.name}.mp4', media.fps)

    def add(self, frame: Frame, found: InstanceData) -> None:
        """Write everything that belongs to one frame."""
        self.frames += 1
        names = [self.predictor.classes[label] for label in found.labels.tolist()]
        self.counts.update(names)
        if self.lines is not None:
            self.lines += [f'{frame.name}:', *object_lines(found, self.predictor.classes)]
        if self.args.json:
            self.records.append(as_record(frame, found, names, self.media.is_video))
        if self.args.crop:
            self._crop(frame, found, names)
        if self.args.no_images and not self.args.show:
            return
        drawn = draw_predictions(frame.image, found, self.predictor.meta, self.trails)
        if self.video is not None:
            self.video.write(drawn)
        elif not self.args.no_images:
            write_image(self.args.out / frame.name, drawn)
        if self.args.show:
            show(drawn)

    def _crop(self, frame: Frame, found: InstanceData, names: list[str]) -> None:
        name = Path(frame.name)
        for number, (box, kind) in enumerate(zip(found.bboxes.tolist(), names, strict=True)):
            x1, y1, x2, y2 = (round(value) for value in box)
            crop = frame.image[y1:y2, x1:x2]
            if crop.size:
                file = name.with_name(f'{name.stem}_{number}.png')
                write_image(self.args.out / 'crops' / kind / file, crop)

    def close(self) -> None:
        """Finish the video and write the JSON file."""
        if self.video is not None:
            self.video.close()
        if self.args.json:
            content = {'classes': list(self.predictor.classes), 'images': self.records}
            (self.args.out / 'predictions.json').write_text(json.dumps(content) + '\n')

    def summary(self, seconds: float) -> str:
        """The printed objects, then numbers of images and objects, rate, and paths."""
        unit = 'frames' if self.media.is_video else 'images'
        count = plural(self.frames, unit[:-1])
        total = sum(self.counts.values())
        kinds = ', '.join(f'{name} {count}' for name, count in self.counts.most_common(8))
        lines = [
            *(self.lines or ()),
            f'{count}, {plural(total, "object")}{f" ({kinds})" if kinds else ""}, '
            f'{self.frames / max(seconds, 1e-9):.1f} {unit} per second',
        ]
        if broken := self.media.unreadable:
            lines.append(f'files that cannot be read: {len(broken)} (the first: {broken[0]})')
        paths = [self.video.path] if self.video else [] if self.args.no_images else [self.args.out]
        paths += [self.args.out / 'crops'] if self.args.crop else []
        paths += [self.args.out / 'predictions.json'] if self.args.json else []
        return '\n'.join([*lines, *(f'results: {path}' for path in paths)])


def object_lines(found: InstanceData, classes: Sequence[str]) -> list[str]:
    """Class and score of every object, in percent.

    The order is that of darknet's program: all classes of a box are together, and boxes are sorted
    by the score of the last class, then of the class before it, and so on.
    """
    boxes: dict[tuple[float, ...], dict[int, list[str]]] = {}
    scores: dict[tuple[float, ...], list[float]] = {}
    for i, (box, label, score) in enumerate(
        zip(found.bboxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True)
    ):
        key = tuple(box)
        track = f', track {int(found.instances_id[i])}' if 'instances_id' in found else ''
        line = f'  {classes[label]} {100 * score:.0f} %{track}'
        boxes.setdefault(key, {}).setdefault(label, []).append(line)
        row = scores.setdefault(key, [0.0] * len(classes))
        row[label] = max(row[label], score)
    order = sorted(boxes, key=lambda key: scores[key][::-1], reverse=True)
    return [line for key in order for label in sorted(boxes[key]) for line in boxes[key][label]]


def as_record(
    frame: Frame, found: InstanceData, names: list[str], is_video: bool
) -> dict[str, Any]:
    """The predictions of a frame as JSON types; boxes are xyxy pixels."""
    objects = []
    for i, name in enumerate(names):
        one = found[i]
        entry: dict[str, Any] = {
            'class': name,
            'label': int(one.labels),
            'score': round(float(one.scores), 4),
            'bbox': [round(value, 2) for value in one.bboxes[0].tolist()],
        }
        if 'keypoints' in found:
            entry['keypoints'] = [
                [round(v, 2) for v in point] for point in one.keypoints[0].tolist()
            ]
        if 'keypoint_scores' in found:
            entry['keypoint_scores'] = [round(v, 4) for v in one.keypoint_scores[0].tolist()]
        if 'instances_id' in found:
            entry['track'] = int(one.instances_id)
        objects.append(entry)
    height, width = frame.image.shape[:2]
    key = {'frame': frame.number} if is_video else {'file': frame.name}
    return {**key, 'width': width, 'height': height, 'objects': objects}


def write_image(path: Path, image: Any) -> None:
    """Write an image and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image):
        raise engine.UsageError(f'{path} could not be written; check the free disk space.')


class WindowClosed(Exception):
    """The user closed the window of --show."""


def show(image: Any) -> None:
    """Show an image in a window."""
    try:
        cv2.imshow('predictions', image)
        key = cv2.waitKey(1) & 0xFF
    except cv2.error:
        raise engine.UsageError(
            '--show needs a display and an OpenCV with windows (opencv-python, not '
            'opencv-python-headless); remove --show.'
        ) from None
    if key == ord('q'):
        raise WindowClosed


def selected(found: InstanceData, score: float, labels: set[int] | None) -> InstanceData:
    """The predictions with at least this score, of these labels."""
    keep = found.scores >= score
    if labels is not None:
        keep &= (found.labels[:, None] == found.labels.new_tensor(sorted(labels))).any(1)
    return found[keep]


def labels_of(names: list[str] | None, classes: Any) -> set[int] | None:
    """Labels of class names; ``None`` for all classes.

    Raises:
        UsageError: The detector has no such class.
    """
    if names is None:
        return None
    unknown = [name for name in names if name not in classes]
    if unknown:
        near = difflib.get_close_matches(unknown[0], classes, n=3)
        fix = f'did you mean {" or ".join(near)}?' if near else f'choose from {", ".join(classes)}.'
        raise engine.UsageError(f'--classes {unknown[0]}: the detector has no such class; {fix}')
    return {list(classes).index(name) for name in names}


def check_results(media: Media, out: Path) -> None:
    """Raise a ``UsageError`` if a result has the path of a file of the source."""
    if isinstance(media, ImageFiles):
        pairs = [(path, out / path.relative_to(media.folder)) for path in media.paths]
    else:
        pairs = [(media.path, out / f'{media.name}.mp4')] if media.path else []
    for source, result in pairs:
        if result.exists() and result.samefile(source):
            raise engine.UsageError(
                f'--out is {out}, where the result would replace {source}; choose another folder.'
            )


def work(cfg: Config, args: argparse.Namespace) -> None:
    """Predict every frame of the source."""
    media = open_media(args.source)
    if '://' not in args.checkpoint and not (path := Path(args.checkpoint)).is_file():
        fault = 'is a folder; give one of its .pth files' if path.is_dir() else 'not found'
        raise engine.UsageError(f'checkpoint {path} {fault} (from {Path.cwd()}).')
    engine.check_folder(args.out, '--out')
    check_results(media, args.out)
    if args.device is not None:
        check_device(args.device)
    predictor = Predictor(cfg, args.checkpoint, args.device)
    labels = labels_of(args.classes, predictor.classes)
    decoder = args.decoder or ('darknet' if predictor.is_darknet and media.total == 1 else 'opencv')
    if isinstance(media, ImageFiles) and decoder == 'darknet':
        media.read = read_darknet_image
    results = Results(args, predictor, media)
    total = media.total if args.frames is None else min(args.frames, media.total or args.frames)
    unit = 'frames' if media.is_video else 'images'
    start = time.monotonic()
    stop = (KeyboardInterrupt, WindowClosed) if media.total is None else WindowClosed
    with contextlib.suppress(stop):
        for frame, found in show_progress(predictor.predict(media, args.batch_size), total, unit):
            results.add(frame, selected(found, args.score, labels))
            if results.frames == args.frames:
                break
    results.close()
    if not results.frames:
        files = 'is no image that OpenCV can read' if media.total == 1 else 'has no readable image'
        raise engine.UsageError(
            f'{args.source} {files}: it is empty, truncated or of another format.'
        )
    print(results.summary(time.monotonic() - start))


if __name__ == '__main__':
    engine.run_tool(work, parse_args())
