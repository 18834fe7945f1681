"""Track the objects of a video, and draw boxes, identities and latest positions."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mmdet_losses import engine

# isort: split
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint

from mmdet_losses.registry import DATASETS, MODELS, TRANSFORMS
from mmdet_losses.visualization.tracks import Image, Point, draw_tracks, write_rows

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp')
VIDEO_SUFFIXES = ('.mp4', '.avi')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    engine.add_common_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file of a tracking detector')
    parser.add_argument(
        '--video',
        type=Path,
        help='video file, or folder of frames sorted by name; default: a video of the test data',
    )
    parser.add_argument('--index', type=int, default=0, help='index of the video in the test data')
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('tracks.png'),
        help=f'image with rows of frames (.png), or video ({", ".join(VIDEO_SUFFIXES)})',
    )
    parser.add_argument(
        '--frames',
        type=int,
        help='maximum number of frames; default: 12 for an image, all for a video',
    )
    parser.add_argument('--start', type=int, default=0, help='first drawn frame')
    parser.add_argument('--columns', type=int, default=6, help='frames per row of the image')
    parser.add_argument('--factor', type=int, default=2, help='enlargement of the frames')
    parser.add_argument('--fps', type=float, default=10, help='frames per second of the video')
    return parser.parse_args(argv)


def demo(cfg: Config, args: argparse.Namespace) -> None:
    """Track, draw and write."""
    kind = args.out.suffix.lower()
    if kind not in (*VIDEO_SUFFIXES, '.png'):
        raise engine.UsageError(
            f'--out is {args.out}; give a .png file or a video ({", ".join(VIDEO_SUFFIXES)}).'
        )
    if not Path(args.checkpoint).is_file():
        raise engine.UsageError(f'checkpoint {args.checkpoint} not found (from {Path.cwd()}).')
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    model = MODELS.build(cfg.model)
    load_checkpoint(model, args.checkpoint, map_location='cpu', strict=True)
    model.to(get_device()).eval()
    count = args.frames or (12 if kind == '.png' else None)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        frames = frames_of(cfg, args, Path(scratch))
        stop = None if count is None else args.start + count
        shown = track(model, cfg, frames[:stop], args.factor)
        drawn = [image for i, image in enumerate(shown) if i >= args.start]
    if not drawn:
        raise engine.UsageError(
            f'--start is {args.start}, but the video has {len(frames)} frames; give less.'
        )
    if kind == '.png':
        write_rows(args.out, drawn, args.columns)
    else:
        write_video(args.out, drawn, args.fps)
    print(f'{len(drawn)} frames in {args.out}')


def frames_of(cfg: Config, args: argparse.Namespace, scratch: Path) -> list[Path]:
    """Files of the frames; the frames of a video file are written to ``scratch``.

    Raises:
        UsageError: The video does not exist or has no frames.
    """
    if args.video is None:
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
        if not 0 <= args.index < len(dataset):
            raise engine.UsageError(
                f'--index is {args.index}; give 0 to {len(dataset) - 1} (videos of the test data).'
            )
        return [Path(frame['img_path']) for frame in dataset.get_data_info(args.index)['images']]
    if args.video.is_dir():
        paths = sorted(args.video.iterdir())
        frames = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
    else:
        frames = list(unpack(args.video, scratch))
    if not frames:
        raise engine.UsageError(
            f'--video {args.video} has no frames; give a video file, or a folder with '
            f'{", ".join(IMAGE_SUFFIXES)} files.'
        )
    return frames


def unpack(video: Path, folder: Path) -> Iterator[Path]:
    """Write the frames of a video file as PNG files."""
    capture = cv2.VideoCapture(str(video))
    number = 0
    while True:
        good, image = capture.read()
        if not good:
            return
        path = folder / f'{number:06d}.png'
        cv2.imwrite(str(path), image)
        yield path
        number += 1


def track(model: Any, cfg: Config, frames: list[Path], factor: int) -> Iterator[Image]:
    """Frames with the predicted tracks, one after the other."""
    steps = cfg.test_dataloader.dataset.pipeline
    pipeline = Compose([TRANSFORMS.build(step) for step in steps])
    trails: dict[int, list[Point]] = {}
    for number, path in enumerate(frames):
        item = dict(img_path=str(path), img_id=number, frame_id=number, video_id=0, instances=[])
        batch = pseudo_collate([pipeline({key: [value] for key, value in item.items()})])
        with torch.no_grad():
            tracks = model.test_step(batch)[0].pred_track_instances.cpu()
        yield draw_tracks(
            cv2.imread(str(path)), tracks.bboxes, tracks.instances_id.tolist(), trails, factor
        )


def write_video(path: Path, images: list[Image], fps: float) -> None:
    """Write a video file.

    Raises:
        UsageError: OpenCV cannot write this format.
    """
    code = cv2.VideoWriter_fourcc(*('mp4v' if path.suffix.lower() == '.mp4' else 'MJPG'))
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), code, fps, (width, height))
    if not writer.isOpened():
        raise engine.UsageError(f'OpenCV cannot write {path} on this machine; give a .png file.')
    for image in images:
        writer.write(image)
    writer.release()


if __name__ == '__main__':
    engine.run_tool(demo, parse_args())
