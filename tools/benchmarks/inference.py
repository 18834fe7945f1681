"""Times of decoding and NMS from given network outputs, compared with MMDetection's heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.config import ConfigDict
from torch import Tensor

from mmdet_losses.core import postprocess
from mmdet_losses.detectors.corner.contracts import Keypoint
from mmdet_losses.registry import MODELS, TASK_UTILS
from tools.benchmarks.grids import FAMILIES
from tools.benchmarks.heatmaps import their_center_head, their_corner_head
from tools.benchmarks.timing import Line, against

BARS = {'CornerNet': 4.0, 'CenterNetPoints': 4.0, 'SSD': 2.0, 'RetinaNet': 3.0, 'YOLOV3': 2.0}
IMAGES, CLASSES = 4, 80
NMS_PRE = {'SSD': 100_000, 'RetinaNet': 1000, 'YOLOV3': 1000}
"""Limit of scores; SSD's recipe limits those of each class, MMDetection those of all classes."""
NMS = dict(type='nms', iou_threshold=0.5)
SURVIVORS = (0, 100, 10_000)
"""Scores above the threshold in each image."""


class Input(NamedTuple):
    """Size of an input and threshold of the scores."""

    size: tuple[int, int]
    score_thr: float
    survivors: int

    def __str__(self) -> str:
        height, width = self.size
        return f'{IMAGES} x {height} x {width}, {self.survivors} scores above {self.score_thr:g}'


SETTINGS = {
    'CornerNet': Input((512, 512), 0.0, 0),
    'CenterNetPoints': Input((512, 512), 0.0, 0),
    'SSD': Input((300, 300), 0.02, 0),
    'RetinaNet': Input((800, 1344), 0.05, 0),
    'YOLOV3': Input((608, 608), 0.05, 0),
}


def inference_pair(name: str, given: Input) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Decoding and NMS of a batch: ours and MMDetection's."""
    if name in FAMILIES:
        return _grid_pair(name, given)
    return _corner_pair(given) if name == 'CornerNet' else _center_pair(given)


def _grid_pair(name: str, given: Input) -> tuple[Callable[[], Any], Callable[[], Any]]:
    family, (height, width) = FAMILIES[name], given.size
    sizes = list(zip(family.sides(height), family.sides(width), strict=True))
    generator = torch.Generator().manual_seed(0)
    fields = [
        [
            torch.randn(IMAGES, depth, *size, generator=generator)
            for depth, size in zip(depths, sizes, strict=True)
        ]
        for depths in family.depths(CLASSES)
    ]
    _shift_to_survivors(name, fields[0], given)
    encoder = TASK_UTILS.build(
        dict(family.encoder, num_classes=CLASSES, score_thr=given.score_thr, topk=1000)
    )
    head = MODELS.build(dict(family.head, num_classes=CLASSES, train_cfg=None))
    cfg = ConfigDict(
        score_thr=given.score_thr,
        conf_thr=given.score_thr,
        nms_pre=NMS_PRE[name],
        nms=NMS,
        max_per_img=100,
    )
    outputs = encoder.outputs_type(*map(tuple, fields))
    metas = _metas(given.size)

    def theirs() -> None:
        head.predict_by_feat(*fields, batch_img_metas=metas, cfg=cfg)

    return _decoded(encoder, outputs, given.size, cfg), theirs


def _shift_to_survivors(name: str, maps: list[Tensor], given: Input) -> None:
    """Shift the logits so that ``survivors`` scores of an image are above the threshold."""
    limit = torch.tensor(given.score_thr).logit()
    if name == 'YOLOV3':  # class scores of nearly 1: the objectness decides
        for level in maps:
            level.unflatten(1, (3, -1))[:, :, 5:] += 20 - 40 * (
                torch.arange(CLASSES)[:, None, None] > 0
            )
        parts = [level.unflatten(1, (3, -1))[:, :, 4] for level in maps]
    elif name == 'SSD':  # the background has the highest logit
        parts = [level.unflatten(1, (-1, CLASSES + 1))[:, :, :CLASSES] for level in maps]
        for level in maps:
            level.unflatten(1, (-1, CLASSES + 1))[:, :, CLASSES] = 0
    else:
        parts = maps
    values = torch.cat([part[0].flatten() for part in parts])
    margin = 1.0
    if given.survivors:
        limit_now = values.topk(min(given.survivors, len(values))).values[-1]
    else:
        limit_now = torch.cat([part.flatten() for part in parts]).max() + margin
    for part in parts:
        part += limit - limit_now


def _decoded(
    encoder: Any, outputs: Any, size: tuple[int, int], cfg: ConfigDict
) -> Callable[[], None]:
    def ours() -> None:
        for instances in encoder.decode(outputs, size):
            postprocess(instances, {}, cfg)

    return ours


def _metas(size: Sequence[int]) -> list[dict]:
    return [
        dict(
            img_shape=tuple(size),
            pad_shape=tuple(size),
            batch_input_shape=tuple(size),
            ori_shape=tuple(size),
            scale_factor=(1.0, 1.0),
            border=[0, size[0], 0, size[1]],
        )
    ] * IMAGES


def _heat(generator: torch.Generator, size: tuple[int, int]) -> Tensor:
    shape = (IMAGES, CLASSES, size[0] // 4, size[1] // 4)
    return torch.randn(shape, generator=generator) - 2.19


def _corner_pair(given: Input) -> tuple[Callable[[], Any], Callable[[], Any]]:
    generator = torch.Generator().manual_seed(0)
    side = (given.size[0] // 4, given.size[1] // 4)
    heats = [_heat(generator, given.size) for _ in range(2)]
    embeddings = [torch.randn(IMAGES, 1, *side, generator=generator) for _ in range(2)]
    offsets = [torch.rand(IMAGES, 2, *side, generator=generator) for _ in range(2)]
    cfg = ConfigDict(
        corner_topk=100,
        local_maximum_kernel=3,
        distance_threshold=0.5,
        score_thr=0.05,
        max_per_img=100,
        nms=dict(type='soft_nms', iou_threshold=0.5, method='gaussian'),
    )
    encoder = TASK_UTILS.build(dict(type='CornerNetTargetEncoder', num_classes=CLASSES))
    outputs = encoder.outputs_type(*map(Keypoint, heats, embeddings, offsets))
    head, metas = their_corner_head(CLASSES), _metas(given.size)

    def theirs() -> None:
        lists = [[each] for each in (*heats, *embeddings, *offsets)]
        head.test_cfg = cfg
        head.predict_by_feat(*lists, batch_img_metas=metas)

    return _decoded(encoder, outputs, given.size, cfg), theirs


def _center_pair(given: Input) -> tuple[Callable[[], Any], Callable[[], Any]]:
    generator = torch.Generator().manual_seed(0)
    side = (given.size[0] // 4, given.size[1] // 4)
    heat = _heat(generator, given.size)
    size, offset = (torch.rand(IMAGES, 2, *side, generator=generator) for _ in range(2))
    encoder = TASK_UTILS.build(dict(type='CenterNetPointsTargetEncoder', num_classes=CLASSES))
    cfg = ConfigDict(topk=100, local_maximum_kernel=3, max_per_img=100)
    outputs = encoder.outputs_type(heat, 10 * size, offset)
    head, metas = their_center_head(CLASSES), _metas(given.size)
    head.test_cfg = cfg

    def theirs() -> None:
        # its forward computes the sigmoid
        head.predict_by_feat([heat.sigmoid()], [10 * size], [offset], batch_img_metas=metas)

    return _decoded(encoder, outputs, given.size, cfg), theirs


def inference_lines(repeats: int) -> list[Line]:
    """Every detector that has a head in MMDetection."""
    lines = []
    for name, given in SETTINGS.items():
        for survivors in SURVIVORS if name in FAMILIES else (0,):
            setting = given._replace(survivors=survivors)
            with torch.no_grad():
                pair = inference_pair(name, setting)
                lines.append(against(f'decode + NMS {name}', setting, *pair, repeats, BARS[name]))
    return lines
