"""Pictures that the tools draw: learning curves, results beside the truth, heatmaps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from mmengine.structures import InstanceData

matplotlib.use('agg')
from matplotlib import pyplot as plt

from mmdet_losses.visualization.sheets import GT_COLOR, MISSED_COLOR, draw_boxes, overlay


def read_picture(path: str | Path) -> np.ndarray:
    """An RGB picture (h, w, 3) uint8."""
    picture = cv2.imread(str(path))
    if picture is None:
        raise FileNotFoundError(f'{path} is no readable picture.')
    return picture[..., ::-1]


def results_grid(
    results: Sequence[tuple[np.ndarray, InstanceData, InstanceData]],
    classes: Sequence[str],
    path: Path,
    score_thr: float = 0.3,
) -> None:
    """Pairs of panels: the truth left, what was found right."""
    rows = (len(results) + 1) // 2
    figure, panels = plt.subplots(
        rows, 4, figsize=(11, 2.9 * rows), squeeze=False, layout='constrained'
    )
    for axes in panels.flat:
        axes.set_axis_off()
    for i, (picture, truth, found) in enumerate(results):
        left, right = panels[i // 2, 2 * (i % 2) : 2 * (i % 2) + 2]
        for axes, title in ((left, 'truth'), (right, f'found (score > {score_thr:g})')):
            axes.imshow(picture)
            axes.set_title(title, fontsize=9)
        draw_boxes(left, truth, classes, GT_COLOR)
        draw_boxes(right, found, classes, MISSED_COLOR, score_thr)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def learning_curve(scalars: Path, path: Path) -> None:
    """Loss terms and validation AP over training, from MMEngine's ``scalars.json``."""
    lines = [json.loads(line) for line in scalars.read_text().splitlines() if line]
    train = [line for line in lines if 'loss' in line]
    val = [line for line in lines if 'coco/bbox_mAP' in line]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout='constrained')
    for name in [key for key in train[0] if key.startswith('loss')]:
        left.plot([line['iter'] for line in train], [line[name] for line in train], label=name)
    left.set(xlabel='iteration', ylabel='loss (weighted terms)', yscale='log')
    left.legend(fontsize=8)
    for name, label in (('coco/bbox_mAP', 'mAP'), ('coco/bbox_mAP_50', 'AP at IoU 0.5')):
        right.plot([line['step'] for line in val], [line[name] for line in val], 'o-', label=label)
    right.set(xlabel='epoch', ylabel='AP on the validation split', ylim=(0, 1))
    right.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def heatmap_sheet(
    picture: np.ndarray,
    heatmap: np.ndarray,
    truth: InstanceData,
    classes: Sequence[str],
    path: Path,
) -> None:
    """Truth, the picture under its encoded heatmap (maximum over classes), and the map alone.

    Args:
        picture: (h, w, 3) network input in RGB.
        heatmap: (C, H, W) in [0, 1].
    """
    best = heatmap.max(0)
    figure, panels = plt.subplots(1, 3, figsize=(12, 4.3), layout='constrained')
    for axes, title in zip(
        panels, ('ground truth', 'encoded centres over the picture', 'heatmap'), strict=True
    ):
        axes.set_axis_off()
        axes.set_title(title, fontsize=10)
    panels[0].imshow(picture)
    draw_boxes(panels[0], truth, classes, GT_COLOR)
    panels[1].imshow(picture)
    overlay(panels[1], best, picture.shape[:2])
    shown = panels[2].imshow(best, cmap='viridis', vmin=0, vmax=1)
    for c, y, x in zip(*np.nonzero(heatmap == 1), strict=True):
        panels[2].text(x, y, classes[c], color='black', fontsize=8, ha='center', va='center')
    figure.colorbar(shown, ax=panels[2], shrink=0.8, label='target')
    figure.savefig(path, dpi=110)
    plt.close(figure)
