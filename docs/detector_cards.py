"""Images of the targets of every detector, for the cards of the index."""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdet_losses.metrics.oracle import Encoded, Perfect
from mmdet_losses.registry import DATASETS, MODELS
from mmdet_losses.visualization.sheets import (
    GT_COLOR,
    KEYPOINT_COLOR,
    PAIR_COLOR,
    RESULT_COLOR,
    overlay,
)
from mmdet_losses.visualization.targets import as_image, corner_pairs, heatmaps
from tools.datasets.small_configs import data_maker, make_data, small_configs

SEED = 11
SHAPE = (4.2, 3.6)
"""Width and height of an image in inches."""


def move_data(cfg: Any, root: str) -> None:
    """Set ``data_root`` of a data set and of the data sets inside it."""
    if 'data_root' in cfg:
        cfg.data_root = root
    for value in cfg.values():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                move_data(each, root)


def encoded(cfg: Config, folder: Path) -> tuple[Encoded, Perfect]:
    """Targets of the first training image of a small config; its data set is made once."""
    tool, _ = data_maker(cfg)
    few = dict(train=1, val=1, frames=4) if tool == 'make_videos' else dict(train=4, val=1)
    few |= dict(objects=(3, 3)) if tool == 'make_digits' else {}
    size = 'x'.join(map(str, np.ravel(data_maker(cfg)[1].get('size', ''))))
    root = folder / f'{tool}{size}'
    make_data(cfg, root, seed=SEED, **few)
    dataset = cfg.train_dataloader.dataset
    move_data(dataset, f'{root}/')
    torch.manual_seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002 (transforms use it)
    perfect = Perfect(MODELS.build(cfg.model))
    return perfect(pseudo_collate([DATASETS.build(dataset)[0]])), perfect


def outline(axes: Axes, boxes: np.ndarray, color: str) -> None:
    """Draw the outlines of xyxy boxes."""
    for x1, y1, x2, y2 in boxes:
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=color, lw=1.4))


def draw(targets: Encoded, perfect: Perfect) -> Figure:
    """The image with its heatmaps, positive anchors, corner pairs and keypoints."""
    image = as_image(targets.inputs[0], perfect.model.data_preprocessor)
    size = image.shape[:2]
    figure = Figure(figsize=SHAPE)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(image)
    for _, heatmap in heatmaps(targets.targets):
        overlay(axes, heatmap.max(0), size)
    boxes = perfect.encoder.positive_boxes(targets.targets, targets.feat_sizes, size).numpy()
    outline(axes, boxes, RESULT_COLOR)
    for line in corner_pairs(targets.targets, size) if hasattr(targets.targets, 'tl') else ():
        axes.plot(*line.T, '.-', color=PAIR_COLOR, lw=1.5, markersize=6)
    gt = targets.samples[0].gt_instances.cpu()
    outline(axes, np.asarray(gt.bboxes), GT_COLOR)
    if 'keypoints' in gt:
        axes.plot(*np.asarray(gt.keypoints).reshape(-1, 2).T, '.', color=KEYPOINT_COLOR)
    # the middle of the image, in the shape of the card
    half = min(size[0], size[1] * SHAPE[1] / SHAPE[0]) / 2
    axes.set_xlim(-0.5, size[1] - 0.5)
    axes.set_ylim(size[0] / 2 + half - 0.5, size[0] / 2 - half - 0.5)
    return figure


def images() -> Iterator[tuple[str, bytes]]:
    """Folder of every detector, and the JPEG file of its card."""
    init_default_scope('mmdet')
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        for name, path in small_configs().items():
            figure, file = draw(*encoded(Config.fromfile(path), Path(folder))), io.BytesIO()
            figure.savefig(file, format='jpg', dpi=120, pil_kwargs={'quality': 85})
            yield name, file.getvalue()
