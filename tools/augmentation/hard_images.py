"""Draws of training pipelines on images without objects and with few, tiny or border objects.

A pipeline that stops at one of several thousand images stops a real training within minutes. Images
and inputs are small, so that thousands of draws take seconds.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from numpy.typing import NDArray

from mmdet_losses.registry import DATASETS
from tools.augmentation.recipes import pipeline_size, train_pipeline, with_size
from tools.augmentation.record import drawn_sizes, held, seed_all

SIZES = ((72, 96), (96, 72), (40, 120), (64, 64), (17, 33))
"""(h, w) of the images."""
SIDE = 64
"""Pixels of the longer side of the small input."""
SHRINK = 8
"""Divides input sizes that are drawn per batch."""


def boxes_of(kind: str, height: int, width: int) -> list[list[float]]:
    """Boxes, xyxy in pixels of an image, of a kind of image."""
    w, h = width, height
    tiny = [w / 3, h / 3, w / 3 + 1, h / 3 + 1]
    corners = [
        [0, 0, w / 4, h / 4], [w * 3 / 4, 0, w, h / 4],
        [0, h * 3 / 4, w / 4, h], [w * 3 / 4, h * 3 / 4, w, h],
    ]  # fmt: skip
    return {
        'empty': [],
        'one': [[w * 0.3, h * 0.4, w * 0.6, h * 0.8]],
        'tiny': [tiny],
        'corner': corners[3:],
        'edge': [[w - 2, h * 0.2, w, h * 0.9]],
        'whole': [[0, 0, w, h]],
        'thin': [[0, h / 2, w, h / 2 + 1]],
        'many': [tiny, [0, 0, w, h], *corners],
    }[kind]


KINDS = ('empty', 'one', 'tiny', 'corner', 'edge', 'whole', 'thin', 'many')


def image_of(height: int, width: int) -> NDArray[np.uint8]:
    """(h, w, 3) pixels."""
    return np.random.default_rng(height * 1000 + width).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )


def items(video: bool) -> list[dict[str, Any]]:
    """What a data set hands to its pipeline: every kind of image at every size.

    Args:
        video: items of a video data set, the images of one size being the frames of a video.
    """
    frames = [
        _frame(number, kind, *size)
        for number, (size, kind) in enumerate((s, k) for s in SIZES for k in KINDS)
    ]
    if not video:
        return frames
    count = len(KINDS)
    return [
        {'video_id': i // count, 'video_length': count, 'images': frames[i : i + count]}
        for i in range(0, len(frames), count)
    ]


def _frame(number: int, kind: str, height: int, width: int) -> dict[str, Any]:
    instances = []
    for k, (x1, y1, x2, y2) in enumerate(boxes_of(kind, height, width)):
        points = np.linspace((x1, y1, 2), (x2, y2, 0), 17).round(1)
        points[::2, 2] = 0  # not labelled
        instances.append(
            {
                'bbox': [x1, y1, x2, y2],
                'bbox_label': 0,
                'ignore_flag': int(kind == 'many' and k == 1),
                'instance_id': k,
                'keypoints': points.tolist(),
            }
        )
    return {
        'held': image_of(height, width),
        'img_path': f'{kind}_{height}x{width}.png',
        'img_id': number,
        'frame_id': number,
        'height': height,
        'width': width,
        'instances': instances,
        'num_keypoints': 17,
        'flip_pairs': tuple((i, i + 1) for i in range(1, 17, 2)),
    }


class HardImages(BaseDataset):
    """The images of :func:`items`; a pipeline that returns None is not repeated.

    Args:
        video: items of a video data set.
        pipeline: steps, without the loading of files.
    """

    def __init__(self, video: bool = False, pipeline: Sequence[Any] = ()) -> None:
        self.video = video
        super().__init__(pipeline=list(pipeline))

    def load_data_list(self) -> list[dict[str, Any]]:
        """See the class."""
        return items(self.video)

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """A copy of an item; of a video with a random key frame."""
        info = super().get_data_info(idx)
        if self.video:
            info['key_frame_id'] = random.randrange(info['video_length'])
        return info

    def __getitem__(self, idx: int) -> Any:
        return self.prepare_data(idx)


class SmallData:
    """The training data of a recipe over :class:`HardImages`, at a small input.

    Args:
        cfg: of a recipe; not changed.
        side: pixels of the longer side of the input.

    Raises:
        ValueError: no step of the pipeline has the size of the input.
    """

    def __init__(self, cfg: Config, side: int = SIDE) -> None:
        pipeline = train_pipeline(cfg)
        old = pipeline_size(pipeline.steps)
        if old is None:
            raise ValueError('no step of the training pipeline has a size; give one a size.')
        size = _smaller(old, side)
        self.sizes = drawn_sizes(pipeline)
        self.steps: list[dict] = []
        video = any(step.type == 'SamplePair' for step in pipeline.steps)
        self.dataset = DATASETS.build(self._replaced(cfg.train_dataloader.dataset, video, size))

    def _replaced(self, dataset: ConfigDict, video: bool, size: tuple[int, int]) -> dict:
        """The config of the data set with our images inside of its wrappers."""
        if 'datasets' in dataset:  # one of several that are joined
            return self._replaced(dataset.datasets[0], video, size)
        steps = list(dataset.get('pipeline', []))
        steps = with_size(steps, size) if pipeline_size(steps) else steps
        if 'dataset' in dataset:
            inner = self._replaced(dataset.dataset, video, size)
            self.steps += steps
            return {**dataset, 'dataset': inner, **({'pipeline': steps} if steps else {})}
        self.steps += steps
        return dict(type=HardImages, video=video, pipeline=[held(step) for step in steps])

    @property
    def key(self) -> str:
        """Text that is equal for recipes whose small pipelines are equal."""
        return repr((self.steps, type(self.dataset).__name__, type(self.sizes).__name__))

    def item(self, number: int) -> dict:
        """A random training item; ``number`` counts them, eight per batch.

        Raises:
            ValueError: the item is missing or not finite.
        """
        index: Any = random.randrange(len(self.dataset))
        if self.sizes is not None:
            side = max(self.sizes.side(number // 8 * self.sizes.interval) // SHRINK, 32) // 32 * 32
            index = index, (side, side)
        item = self.dataset[index]
        if item is None:
            raise ValueError(f'the training pipeline returned None for item {index}.')
        boxes = item['data_samples'].gt_instances.bboxes
        boxes = getattr(boxes, 'tensor', boxes)
        if not (item['inputs'].numel() and item['inputs'].isfinite().all()):
            raise ValueError(f'item {index} has {tuple(item["inputs"].shape)} pixels, not finite.')
        if not torch.as_tensor(boxes).isfinite().all():
            raise ValueError(f'item {index} has the boxes {boxes}, which are not finite.')
        return item


def _smaller(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(w, h) whose longer side is ``side``; a multiple of 32 stays one."""
    unit = 1 if any(each % 32 for each in size) else 32
    w, h = (max(round(each * side / max(size) / unit), 1) * unit for each in size)
    return w, h


class Drawn(NamedTuple):
    """Result of :func:`draw_hard_images`."""

    empty: int
    """Items without objects."""
    seconds: float


def draw_hard_images(data: SmallData, count: int, seed: int = 0) -> Drawn:
    """Draw training items; an exception of the pipeline is raised.

    Args:
        data: of a recipe.
        count: items.
        seed: of all generators.
    """
    seed_all(seed)
    start = time.perf_counter()
    empty = sum(not len(data.item(i)['data_samples'].gt_instances) for i in range(count))
    return Drawn(empty, time.perf_counter() - start)
