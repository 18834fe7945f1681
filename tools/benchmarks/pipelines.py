"""Images per second of training pipelines, beside MMDetection's nearest pipelines."""

from __future__ import annotations

import copy
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.hub import get_config
from numpy.typing import NDArray

from mmdet_losses.data.draws import whole_number
from mmdet_losses.registry import DATASETS
from tools.augmentation.recipes import CONFIGS, pipeline_size, train_pipeline, with_size
from tools.augmentation.record import drawn_sizes, seed_all
from tools.benchmarks.plain_loaders import PLAIN

SIZE = 480, 640
"""(h, w) of the images."""
OBJECTS = 7
"""Objects per image, as in COCO."""


class Case(NamedTuple):
    """A recipe of ours and the nearest training of MMDetection."""

    ours: str
    """Config below ``configs/``."""
    theirs: str
    """Config of the installed MMDetection."""
    side: int | None = None
    """Pixels of MMDetection's square input where it differs from the config."""
    goal: float = 2.0
    """Smallest ratio of the rates."""
    mosaics: bool = False
    """Every draw of ours is a mosaic, as MMDetection's; the recipe draws half of them."""


YOLOX = 'yolox/yolox_tiny_8xb8-300e_coco.py'
YOLOV3 = 'yolo/yolov3_d53_8xb8-ms-608-273e_coco.py'
CASES = {
    'CornerNet': Case(
        'cornernet/cornernet_hg104_8xb6-500k_coco.py',
        'cornernet/cornernet_hourglass104_8xb6-210e-mstest_coco.py',
        goal=1.0,
    ),
    'CenterNetPoints': Case(
        'centernet_points/centernet_points_dla34_8xb16-140e_coco.py',
        'centernet/centernet_r18-dcnv2_8xb16-crop512-140e_coco.py',
        goal=1.0,
    ),
    'SSD300-VOC': Case('ssd/ssd300_vgg16_4xb8-232e_voc0712.py', 'pascal_voc/ssd300_voc0712.py'),
    'SSD300-COCO': Case('ssd/ssd300_vgg16_8xb8-120e_coco.py', 'ssd/ssd300_coco.py'),
    'RetinaNet': Case(
        'retinanet/retinanet_r50_fpn_8xb2-12e_coco.py',
        'retinanet/retinanet_r50_fpn_1x_coco.py',
        goal=1.0,
    ),
    'YOLOv1': Case(
        'yolov1/yolov1_extraction_8xb8-155e_voc0712.py',
        'yolo/yolov3_d53_8xb8-ms-416-273e_coco.py',
    ),
    'YOLOv2': Case('yolov2/yolov2_d19_8xb8-ms-310e_voc0712.py', YOLOV3),
    'YOLOv3-608': Case('yolov3/yolov3_d53_8xb8-ms-608-273e_coco.py', YOLOV3),
    'YOLOv4': Case('yolov4/yolov4_csp53_8xb8-ms-608-273e_coco.py', YOLOX, 608),
    'YOLOv4-mosaics': Case(
        'yolov4/yolov4_csp53_8xb8-ms-608-273e_coco.py', YOLOX, 608, mosaics=True
    ),
    'Scaled-CSP': Case('scaled_yolov4/scaled_yolov4_csp_8xb8-300e-640_coco.py', YOLOX, 640),
    'Scaled-P5': Case('scaled_yolov4/scaled_yolov4_p5_8xb8-300e-896_coco.py', YOLOX, 896),
    'Scaled-P6': Case('scaled_yolov4/scaled_yolov4_p6_8xb8-300e-1280_coco.py', YOLOX, 1280),
    'Scaled-P7': Case('scaled_yolov4/scaled_yolov4_p7_8xb8-300e-1536_coco.py', YOLOX, 1536),
}


# -------------------------------------------------------------------------------------- images


def natural_image(seed: int) -> NDArray[np.uint8]:
    """(h, w, 3) pixels with the spectrum of photographs (1/f), sharp edges and textures."""
    rng = np.random.default_rng(seed)
    height, width = SIZE
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = 1.0
    spectrum = np.exp(2j * np.pi * rng.random((4, *frequency.shape))) / frequency
    planes = np.fft.irfft2(spectrum, SIZE)
    planes /= planes.std((1, 2), keepdims=True)
    # luminance varies more than colour
    image = rng.uniform(90, 150, 3) + 40 * planes[0][..., None] + 12 * planes[1:].transpose(1, 2, 0)
    for _ in range(25):
        x, y = rng.integers(0, width), rng.integers(0, height)
        axes = tuple(int(each) for each in rng.integers(8, 110, 2))
        mask = np.zeros(SIZE, np.uint8)
        cv2.ellipse(mask, (int(x), int(y)), axes, float(rng.uniform(0, 180)), 0, 360, 1, cv2.FILLED)
        image[mask == 1] = 0.5 * image[mask == 1] + rng.uniform(0, 130, 3)
    return image.clip(0, 255).astype(np.uint8)


def write_images(folder: Path, count: int) -> None:
    """JPEG files of about the size of COCO's, ``0.jpg`` and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        quality = [cv2.IMWRITE_JPEG_QUALITY, 93]
        cv2.imwrite(str(folder / f'{number}.jpg'), natural_image(number), quality)


class JpegImages(BaseDataset):
    """The files of :func:`write_images` with boxes.

    Args:
        folder: of the files.
        pipeline: training steps.
    """

    def __init__(self, folder: str, pipeline: Sequence[Any] = ()) -> None:
        self.folder = Path(folder)
        super().__init__(pipeline=list(pipeline))

    def load_data_list(self) -> list[dict[str, Any]]:
        """See the class."""
        rng = np.random.default_rng(0)
        items = []
        for number, path in enumerate(sorted(self.folder.glob('*.jpg'))):
            sides = np.exp(rng.uniform(np.log(16), np.log(256), (OBJECTS, 2)))
            corners = rng.uniform(0, 1, (OBJECTS, 2)) * (SIZE[::-1] - sides)
            boxes = np.concatenate((corners, corners + sides), 1).round(1).tolist()
            instances = [dict(bbox=box, bbox_label=0, ignore_flag=0) for box in boxes]
            items.append(
                dict(
                    img_path=str(path), img_id=number, height=SIZE[0], width=SIZE[1],
                    instances=instances,
                )
            )  # fmt: skip
        return items


# ----------------------------------------------------------------------------------- pipelines


class Source:
    """Training items of a config over :class:`JpegImages`.

    Args:
        cfg: of a training.
        folder: of the images.
        side: pixels of the square input; None: those of the config.
        mosaics: every draw is a mosaic.
    """

    def __init__(
        self, cfg: Config, folder: Path, side: int | None = None, mosaics: bool = False
    ) -> None:
        self.sizes = drawn_sizes(train_pipeline(cfg))
        config = _with_images(copy.deepcopy(cfg.train_dataloader.dataset), folder, side, mosaics)
        self.dataset = DATASETS.build(config)
        self.count = 0

    def item(self) -> dict:
        """The next item; input sizes that are drawn per batch are drawn anew for each."""
        number = self.count
        self.count += 1
        index: Any = number % len(self.dataset)
        if self.sizes is not None:
            side = self.sizes.side((number + 1) * self.sizes.interval)
            index = index, (side, side)
        return self.dataset[index]


def _with_images(dataset: Any, folder: Path, side: int | None, mosaics: bool) -> dict:
    """The config of a data set with our images inside of its wrappers."""
    if 'datasets' in dataset:
        return _with_images(dataset['datasets'][0], folder, side, mosaics)
    steps = list(dataset.get('pipeline', []))
    if side is not None and pipeline_size(steps):
        steps = with_size(steps, (side, side))
    for step in steps:
        if side is not None and step['type'] == 'RandomAffine':
            step['border'] = (-side // 2, -side // 2)
        if mosaics and step['type'] == 'DarknetMosaic':
            step['prob'] = 1.0
    if 'dataset' in dataset:
        inner = _with_images(dataset['dataset'], folder, side, mosaics)
        return {**dataset, 'dataset': inner, **({'pipeline': steps} if steps else {})}
    return dict(type=JpegImages, folder=str(folder), pipeline=steps)


def sources(case: Case, folder: Path) -> tuple[Source, Source]:
    """Our items and MMDetection's."""
    ours = Source(Config.fromfile(CONFIGS / case.ours), folder, mosaics=case.mosaics)
    return ours, Source(get_config(f'mmdet::{case.theirs}'), folder, side=case.side)


class PlainSource:
    """Images of a plain loader, at the sizes of our pipeline.

    Args:
        name: of the pipeline.
        folder: of the images.
        ours: items of our pipeline.
    """

    def __init__(self, name: str, folder: Path, ours: Source) -> None:
        self.load, self.sizes = PLAIN[name], ours.sizes
        self.side = int(ours.item()['inputs'].shape[-1])
        self.paths = sorted(folder.glob('*.jpg'))
        self.count = 0

    def item(self) -> NDArray:
        """The next image."""
        self.count += 1
        if self.sizes is not None:
            self.side = self.sizes.side(self.count * self.sizes.interval)
        numbers = [self.count - 1, *(whole_number(0, len(self.paths) - 1) for _ in range(3))]
        return self.load([self.paths[each % len(self.paths)] for each in numbers], self.side)


class Rates(NamedTuple):
    """Images per second of processor time."""

    ours: float
    theirs: float
    plain: float | None
    """Of the plain loader, if there is one."""
    ratio: float
    """Median of the ratios of the rounds."""
    low: float
    high: float
    """Quartiles of the ratios."""


def measure(name: str, folder: Path, items: int, rounds: int) -> Rates:
    """The pipelines in turns.

    Args:
        name: of what to compare.
        folder: of the images.
        items: of each pipeline per round.
        rounds: they take turns so often, after one item each.
    """
    compared: list[Source | PlainSource] = list(sources(CASES[name], folder))
    if name in PLAIN:
        compared.append(PlainSource(name, folder, sources(CASES[name], folder)[0]))
    seed_all(0)
    times: list[list[float]] = [[] for _ in compared]
    for source in compared:
        source.item()
    for _ in range(rounds):
        for row, source in zip(times, compared, strict=True):
            start = time.process_time()
            for _ in range(items):
                source.item()
            row.append((time.process_time() - start) / items)
    ratios = [theirs / ours for ours, theirs in zip(*times[:2], strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4) if rounds > 1 else ratios * 3
    ours, theirs, *plain = (1 / statistics.median(row) for row in times)
    return Rates(ours, theirs, plain[0] if plain else None, statistics.median(ratios), low, high)


def decoding_rate(folder: Path, repeats: int) -> float:
    """Images per second of reading and decoding the files alone."""
    paths = sorted(folder.glob('*.jpg'))
    start = time.process_time()
    for _ in range(repeats):
        for path in paths:
            cv2.imread(str(path))
    return repeats * len(paths) / (time.process_time() - start)


# ------------------------------------------------------------------------------------- profile


class Timed:
    """A transform that adds up its processor time.

    Args:
        transform: to be timed.
        spent: seconds per name; changed.
    """

    def __init__(self, transform: Any, spent: dict[str, float]) -> None:
        self.transform, self.spent = transform, spent

    def __call__(self, results: dict) -> Any:
        start = time.process_time()
        results = self.transform(results)
        self.spent[type(self.transform).__name__] += time.process_time() - start
        return results

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transform, name)


def profile(source: Source, items: int) -> dict[str, float]:
    """Milliseconds per item of each transform, and of the rest."""
    spent: dict[str, float] = defaultdict(float)
    source.item()
    dataset = source.dataset
    while dataset is not None:
        steps = getattr(dataset, 'pipeline', None)
        if steps is not None:
            steps = getattr(steps, 'transforms', steps)
            steps[:] = [Timed(step, spent) for step in steps]
        dataset = getattr(dataset, 'dataset', None)
    seed_all(0)
    start = time.process_time()
    for _ in range(items):
        source.item()
    whole = time.process_time() - start
    table = {name: 1e3 * seconds / items for name, seconds in spent.items()}
    return {**table, 'rest': 1e3 * whole / items - sum(table.values())}
