"""Launches, bytes and synchronisations of every detector, beside MMDetection's heads."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from mmengine.structures import InstanceData
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from mmdet_losses.registry import MODELS, TASK_UTILS
from tools.benchmarks import grids, heatmaps
from tools.benchmarks.launches import Counts, count_on_host, count_on_meta
from tools.benchmarks.timing import boxes_like_coco

IMAGES, OBJECTS, CLASSES, KEYPOINTS = 8, 15, 80, 17


class Case(NamedTuple):
    """Maps of a detector at the size of its recipe."""

    side: int
    """Side of the square input in pixels."""
    strides: tuple[int, ...]
    predictor: dict[str, Any]
    """Arguments of the predictor beside the classes; its layers are narrow."""
    encoder: dict[str, Any] = {}
    channels: tuple[int, ...] = ()
    """Channels of the feature maps; empty: 8 each."""
    classes: int = CLASSES


HEATMAP = {'in_channels': 8, 'channels': 8}
CORNERS = {**HEATMAP, 'pool_channels': 8}
THREE = {'in_channels': (8, 8, 8)}
SSD_LEVELS = {'in_channels': (8,) * 6, 'num_anchors': grids.SSD_ANCHORS}
FPN = {'in_channels': 8, 'feat_channels': 8, 'stacked_convs': 1}
YOLOV1 = {
    'in_channels': 8,
    'feat_size': (7, 7),
    'num_boxes': 2,
    'hidden': 'connected',
    'hidden_channels': 16,
}
SACCADE = {**CORNERS, 'attention_channels': (6, 6, 4)}
CASES = {
    'CornerNet': Case(512, (4,), CORNERS),
    'CornerNetSaccade': Case(256, (4, 16, 8, 4), SACCADE, channels=(8, 6, 6, 4)),
    'CenterNetTriplet': Case(512, (4,), CORNERS),
    'CenterNetPoints': Case(512, (4,), HEATMAP),
    'CenterNetPose': Case(
        512,
        (4,),
        {**HEATMAP, 'num_keypoints': KEYPOINTS},
        {'num_keypoints': KEYPOINTS},
        classes=1,
    ),
    'CenterTrack': Case(512, (4,), {**HEATMAP, 'with_ltrb_amodal': True, 'with_ltrb': True}),
    'SSD': Case(300, (8, 16, 32, 64, 100, 300), SSD_LEVELS),
    'RetinaNet': Case(512, (8, 16, 32, 64, 128), FPN),
    'YOLOV1': Case(448, (64,), YOLOV1, classes=20),
    'YOLOV2': Case(416, (32,), {'in_channels': 8}),
    'YOLOV3': Case(416, (32, 16, 8), THREE),
    'YOLOV4': Case(416, (8, 16, 32), THREE),
    'ScaledYOLOV4': Case(640, (8, 16, 32), THREE),
    'GaussianYOLO': Case(416, (32, 16, 8), THREE),
}


BUDGETS = {
    'CornerNet': (20, 114),
    'CornerNetSaccade': (60, 193),
    'CenterNetTriplet': (26, 140),
    'CenterNetPoints': (18, 59),
    'CenterNetPose': (41, 135),
    'CenterTrack': (51, 196),
    'SSD': (59, 166),
    'RetinaNet': (56, 97),
    'YOLOV1': (55, 171),
    'YOLOV2': (53, 267),
    'YOLOV3': (53, 211),
    'YOLOV4': (55, 199),
    'ScaledYOLOV4': (44, 208),
    'GaussianYOLO': (53, 280),
}
"""Greatest number of launches of encode, and of encode, loss and gradient: the reached counts."""

ENCODE_GOAL = 60
"""Limit of the launches of every encoder."""

GOALS = {
    'CornerNet': 150,
    'CenterNetPoints': 100,
    'SSD': 200,
    'RetinaNet': 120,
    'YOLOV3': 250,
    'YOLOV4': 250,
    'ScaledYOLOV4': 250,
}
"""Limits of the launches of encode, loss and gradient."""

MAP_GOALS = {'CornerNet': 5}
"""Limits of the bytes of encode, loss and gradient, in heatmaps of one kind of corner."""


class Work(NamedTuple):
    """Encoder, criterion and outputs of a detector on a device, and what is counted."""

    encoder: Any
    criterion: Any
    outputs: Any
    gt_instances: list[InstanceData]
    size: tuple[int, int]

    def encode(self) -> Any:
        """Targets of the batch."""
        sizes = self.encoder.feat_sizes(self.outputs)
        return self.encoder.encode(self.gt_instances, sizes, self.size)

    def losses(self, outputs: Any) -> dict[str, Tensor]:
        """Loss terms of some outputs."""
        return self.criterion(outputs, self.encode())

    def step(self) -> None:
        """Encode, loss and gradient."""
        leaves = [each for each in tree_leaves(self.outputs) if isinstance(each, Tensor)]
        total = sum(self.losses(self.outputs).values())
        torch.autograd.grad(total, leaves, allow_unused=True)


def ground_truth(stem: str, images: int, objects: int) -> list[InstanceData]:
    """Boxes as in COCO, with the fields that the detector's encoder reads."""
    case = CASES[stem]
    batch = boxes_like_coco(images, objects, case.classes, case.side)
    for each in batch:
        center = (each.bboxes[:, :2] + each.bboxes[:, 2:]) / 2
        if stem == 'CenterNetPose':
            each.keypoints = center[:, None].expand(-1, KEYPOINTS, -1)
            each.keypoints_visible = torch.full((objects, KEYPOINTS), 2)
        if stem == 'CenterTrack':
            each.previous_centers = center
            each.previous_mask = torch.ones(objects, dtype=torch.bool)
    return batch


def work_of(stem: str, images: int = IMAGES, objects: int = OBJECTS, device: str = 'meta') -> Work:
    """A detector at the size of its recipe, with random outputs; without values on ``meta``."""
    case, size = CASES[stem], (CASES[stem].side,) * 2
    feats = [
        torch.empty(images, depth, side, side, device='meta')
        for depth, side in zip(
            case.channels or (8,) * len(case.strides),
            grids.strided(*case.strides)(case.side),
            strict=True,
        )
    ]
    kind = {'num_classes': case.classes}
    predictor = MODELS.build({'type': f'{stem}Predictor', **kind, **case.predictor}).to('meta')
    generator = torch.Generator().manual_seed(0)

    def random(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        if device != 'meta':
            x = (torch.randn(x.shape, generator=generator) / 2 - 2).to(device)
        return x.detach().requires_grad_()

    return Work(
        encoder=TASK_UTILS.build({'type': f'{stem}TargetEncoder', **kind, **case.encoder}),
        criterion=MODELS.build({'type': f'{stem}Loss'}).to(device),
        outputs=tree_map(random, predictor(tuple(feats))),
        gt_instances=[each.to(device) for each in ground_truth(stem, images, objects)],
        size=size,
    )


def their_step(stem: str, device: str = 'cpu') -> Callable[[], Any] | None:
    """Encoding, loss and gradient of MMDetection's head; None without a head."""
    if stem in grids.FAMILIES:
        setting = grids.GridSetting(IMAGES, CLASSES, CASES[stem].side, OBJECTS)
        return grids.family_pair(stem, setting, device)[1]
    if stem in ('CornerNet', 'CenterNetPoints'):
        setting = heatmaps.Setting(IMAGES, CLASSES, CASES[stem].side // 4, OBJECTS)
        return heatmaps.head_pairs(setting, device)[stem][1]
    return None


def host_time(function: Callable[[], Any], repeats: int) -> float:
    """Median milliseconds of a call: the time of the host, as ``meta`` tensors compute nothing."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


class Row(NamedTuple):
    """Counts of a detector."""

    stem: str
    encode: Counts
    step: Counts
    decode: Counts
    host_ms: float
    theirs: Counts | None


def launch_rows(repeats: int = 5, stems: list[str] | None = None, beside: bool = True) -> list[Row]:
    """Counts of the detectors, ``beside`` those of MMDetection's heads."""
    rows = []
    for stem in stems or CASES:
        work, theirs = work_of(stem), their_step(stem) if beside else None
        decode = torch.no_grad()(partial(work.encoder.decode, work.outputs, work.size))
        rows.append(
            Row(
                stem,
                count_on_meta(work.encode).counts,
                count_on_meta(work.step).counts,
                count_on_meta(decode).counts,
                host_time(work.step, repeats),
                None if theirs is None else count_on_host(theirs).counts,
            )
        )
    return rows


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    lines = [
        f'{IMAGES} images, {OBJECTS} objects each; launches / MB / synchronisations, counted',
        '',
        '| detector | encode | encode + loss + gradient | decode | host, ms | MMDetection |',
        '|---|---|---|---|---|---|',
    ]
    for row in rows:
        cells = [_text(each) for each in (row.encode, row.step, row.decode)]
        theirs = '' if row.theirs is None else _text(row.theirs)
        cells = [row.stem, *cells, f'{row.host_ms:.1f}', theirs]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def _text(counts: Counts) -> str:
    return f'{counts.launches} / {counts.bytes / 1e6:.0f} / {counts.syncs}'
