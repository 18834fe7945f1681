"""Draws of a recipe's training pipeline on fixed images, as numbers."""
# ruff: noqa: NPY002 (what transforms draw from)

from __future__ import annotations

import copy
import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from numpy.typing import NDArray

from mmdet_losses.data.objects import box_array, learned
from mmdet_losses.registry import DATA_SAMPLERS, TASK_UTILS, TRANSFORMS
from tools.augmentation import tracking
from tools.augmentation.layout import Scene
from tools.augmentation.options import Options
from tools.augmentation.recipes import TrainPipeline, pipeline_size, train_pipeline, with_size

MAP_STRIDE = 4
"""Pixels per cell of the centre family's output map, to whose last cell its encoders clip."""
PREVIOUS = ('mean_rgb', 'std_rgb', 'fill_fraction')
"""Numbers of the previous image that the files have."""
Row = dict[str, NDArray[np.float64]]


class HeldImage(BaseTransform):
    """Stands in for ``LoadImageFromFile``: the image is in memory."""

    def __init__(self, to_float32: bool = False, **_: Any) -> None:
        self.to_float32 = to_float32

    def transform(self, results: dict) -> dict:
        """Adds ``img`` (B, G, R) and its sizes."""
        image = results['held'][..., ::-1].copy()
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results


class Recorder:
    """Draws of the training pipeline of a config, on the images of a scene.

    Images that the pipeline mixes are always those of the scene in its order: image k is in tile k.
    A second mosaic, for mixup, has the same images with boxes that are not tracked.

    Args:
        cfg: of a recipe.
        scene: fixed images and boxes.
    """

    def __init__(self, cfg: Config, scene: Scene) -> None:
        self.scene = scene
        pipeline = train_pipeline(cfg)
        steps, encoder = pipeline.steps, copy.deepcopy(cfg.model.bbox_head.encoder)
        wanted = scene.input_size
        self.sampler = None if wanted else drawn_sizes(pipeline, scene.size_rule)
        self.changes = Options(steps, encoder, scene.about).changes
        if wanted and pipeline_size(steps) not in (None, wanted):
            self.changes.append(f'input {pipeline_size(steps)} -> {wanted}')
            steps = with_size(steps, wanted)
        self.transforms = [_build(step) for step in steps[:-1]]  # without the packing
        self.on_map = encoder.type.startswith(('CenterNetPoints', 'CenterNetPose', 'CenterTrack'))
        self.encoder = TASK_UTILS.build(encoder) if encoder.type.startswith('CenterTrack') else None
        self.count = 0

    def draws(self, count: int, seed: int = 0) -> dict[str, NDArray[np.float64]]:
        """Arrays with ``count`` rows, see :mod:`tools.augmentation.layout`."""
        seed_all(seed)
        columns: dict[str, list[NDArray]] = defaultdict(list)
        for _ in range(count):
            for key, value in self.draw().items():
                columns[key].append(np.asarray(value, np.float64))
        return {key: np.stack(rows) for key, rows in columns.items()}

    def draw(self) -> Row:
        """One training item as numbers."""
        self.count += 1
        results, mosaic = self._run()
        image = results['img']
        height, width = image.shape[:2]
        boxes, inside = self._encoded(results)
        labels = np.asarray(results['gt_bboxes_labels'])[inside]
        tracked = np.full((len(self.scene.boxes), 4), np.nan)
        for box, label in zip(boxes[inside], labels, strict=True):
            if label < len(tracked):
                tracked[label] = box
        row: Row = {
            'size': np.array([width, height]),
            'box': tracked,
            'n_boxes': np.array(inside.sum()),
            'flip': self._flips(tracked),
            'probe_rgb': probes(image, tracked),
            **image_numbers(image),
        }
        extras: list[Callable[[dict, NDArray], Row]] = [self._visibility, self._keypoints]
        for extra in extras:
            row.update(extra(results, inside))
        if 'previous' in results:
            row.update(tracking.previous_numbers(results, self.encoder, len(tracked)))
            numbers = image_numbers(results['previous']['img'])
            row.update({f'prev_{key}': numbers[key] for key in PREVIOUS})
        if len(self.scene.images) == 4:
            row.update(self._mosaic(results, mosaic))
        return row

    def _run(self) -> tuple[dict, bool]:
        """The results of one pass, and whether other images were mixed in."""
        results, mixed = self._item(0), False
        if self.sampler is not None:
            side = self.sampler.side(self.sampler.interval * self.count)
            results['input_size'] = side, side
        for transform in self.transforms:
            if hasattr(transform, 'get_indexes'):
                count = len(transform.get_indexes(range(1000)))
                mixed = mixed or count > 0
                results['mix_results'] = [self._loaded(1 + i) for i in range(count)]
            results = transform(results)
            results.pop('mix_results', None)
        return results, mixed

    def _item(self, number: int) -> dict:
        """What a data set hands to its pipeline; from number 4 on boxes that are not tracked."""
        if 'frame_boxes' in self.scene.about:
            return tracking.item(self.scene)
        place = number % len(self.scene.images)
        classes = np.flatnonzero(self.scene.box_image == place)
        beyond = 1000 * (number >= len(self.scene.images))
        image = self.scene.images[place]
        item = {
            'held': image,
            'img_path': f'image{place}',
            'img_id': place,
            'height': image.shape[0],
            'width': image.shape[1],
            'instances': [
                {'bbox': self.scene.boxes[k].tolist(), 'bbox_label': int(k) + beyond,
                 'ignore_flag': 0}
                for k in classes
            ],
        }  # fmt: skip
        if 'keypoints' in self.scene.about:
            self._add_keypoints(item, classes)
        return item

    def _add_keypoints(self, item: dict, classes: NDArray) -> None:
        """COCO's 17 keypoints; the scene has three of them, the others are not labelled."""
        item['num_keypoints'] = 17
        item['flip_pairs'] = tuple((i, i + 1) for i in range(1, 17, 2))
        for instance, k in zip(item['instances'], classes, strict=True):
            rows = np.zeros((17, 3))
            rows[[0, 5, 6]] = self.scene.about['keypoints'][k]
            instance['keypoints'] = rows.tolist()

    def _loaded(self, number: int) -> dict:
        """A further image of a mosaic, loaded as the inner data set does."""
        results = self._item(number)
        for transform in self.transforms:
            if hasattr(transform, 'get_indexes'):
                break
            results = transform(results)
        return results

    def _encoded(self, results: dict) -> tuple[NDArray, NDArray]:
        """Boxes (n, 4) as the target encoder reads them, cxcywh in parts of the input; which."""
        height, width = results['img'].shape[:2]
        boxes, used = box_array(results), learned(results)
        sides = np.array([width, height], np.float64)
        if self.on_map:
            sides /= MAP_STRIDE
            boxes = (boxes / MAP_STRIDE).clip(0, np.tile(sides - 1, 2))
        span = boxes[:, 2:] - boxes[:, :2]
        middle = (boxes[:, 2:] + boxes[:, :2]) / 2
        return np.concatenate((middle / sides, span / sides), 1), used & (span > 0).all(1)

    def _flips(self, tracked: NDArray) -> NDArray:
        """Per image 1 where its boxes changed sides, NaN where fewer than two are left."""
        flips = np.full(len(self.scene.images) if len(self.scene.images) == 4 else 1, np.nan)
        before = self.scene.boxes[:, [0, 2]].mean(1)
        for i in range(len(flips)):
            shown = (self.scene.box_image == i) & np.isfinite(tracked[:, 0])
            if shown.sum() >= 2:
                a, b = before[shown], tracked[shown, 0]
                flips[i] = ((a - a.mean()) * (b - b.mean())).sum() < 0
        return flips

    def _visibility(self, results: dict, inside: NDArray) -> Row:
        if 'gt_visibility' not in results:
            return {}
        shares = np.full(len(self.scene.boxes), np.nan)
        labels = np.asarray(results['gt_bboxes_labels'])[inside]
        shares[labels] = results['gt_visibility'][inside]
        return {'visible_share': shares}

    def _keypoints(self, results: dict, inside: NDArray) -> Row:
        """Keypoints in parts of the output map, NaN where outside."""
        if 'gt_keypoints' not in results:
            return {}
        points = np.full((len(self.scene.boxes), 3, 2), np.nan)
        labels = np.asarray(results['gt_bboxes_labels'])[inside]
        height, width = results['img'].shape[:2]
        found = results['gt_keypoints'][inside][:, [0, 5, 6]] / [width, height]
        shown = ((found >= 0) & (found < 1)).all(-1)
        points[labels] = np.where(shown[..., None], found, np.nan)
        return {'keypoint': points}

    def _mosaic(self, results: dict, mosaic: bool) -> Row:
        if 'mixed' in results:
            return {'mixed': np.array(results['mixed'])}
        cut = results.get('mosaic_cut', (np.nan, np.nan))
        size = results['img'].shape[1::-1]
        return {'mosaic': np.array(mosaic), 'cut': np.divide(cut, size)}


def seed_all(seed: int) -> None:
    """Seed the generators that transforms draw from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def drawn_sizes(
    pipeline: TrainPipeline, options: Mapping[str, float] = MappingProxyType({})
) -> Any:
    """The batch sampler that draws input sizes, without a data set; None if there is none."""
    if pipeline.batch_sampler is None or 'DrawnSize' not in pipeline.batch_sampler.type:
        return None
    single = {'sampler': range(1), 'batch_size': 1}
    return DATA_SAMPLERS.build({**pipeline.batch_sampler, **options, **single})


def held(step: dict) -> dict:
    """A step of the recipe; images come from memory."""
    if step['type'] == 'LoadImageFromFile':
        return dict(type=HeldImage, to_float32=step.get('to_float32', False))
    if step['type'] == 'WithPrevious':
        return {**step, 'transforms': [held(each) for each in step['transforms']]}
    return step


def _build(step: dict) -> BaseTransform:
    """A step of the recipe; images come from memory, and every box has a class of its own."""
    step = copy.deepcopy(step)
    if step['type'] == 'CheckAnnotations':
        step['num_classes'] = None
    return TRANSFORMS.build(held(step))


def image_numbers(image: NDArray) -> Row:
    """Mean, deviation and border of a B, G, R image."""
    mean, deviation = cv2.meanStdDev(image)
    fraction, colour = fill(image)
    return {
        'mean_rgb': mean[::-1, 0],
        'std_rgb': deviation[::-1, 0],
        'fill_fraction': np.array(fraction),
        'fill_rgb': colour,
    }


def fill(image: NDArray) -> tuple[float, NDArray]:
    """Share and R, G, B of the colour that is repeated most, if by 1 % of the pixels or more.

    Large images are read on a grid of about 16,000 pixels, as in the official files.
    """
    step = max(int((image.shape[0] * image.shape[1] / 16_000) ** 0.5), 1)
    grid = image[step // 2 :: step, step // 2 :: step]
    pixels = np.ascontiguousarray(grid).reshape(-1, 3)
    bits = pixels.astype(np.float32).view(np.uint32).astype(np.uint64)
    keys = bits @ np.array([1, 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    most = counts.argmax()
    share = counts[most] / len(pixels)
    if share < 0.01:
        return 0.0, np.full(3, np.nan)
    return float(share), pixels[first[most], ::-1].astype(np.float64)


def probes(image: NDArray, boxes: NDArray) -> NDArray:
    """Mean R, G, B (K, 3) of the 3 x 3 pixels around the centres of boxes (K, 4)."""
    height, width = image.shape[:2]
    found = np.full((len(boxes), 3), np.nan)
    for k in np.flatnonzero(np.isfinite(boxes[:, 0])):
        x, y = int(boxes[k, 0] * width), int(boxes[k, 1] * height)
        part = image[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        found[k] = part.reshape(-1, 3).mean(0, dtype=np.float64)[::-1]
    return found
