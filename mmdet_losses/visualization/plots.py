"""Figures of a trained detector: learning curves, predictions beside the ground truth, heatmaps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from mmengine.structures import InstanceData

from mmdet_losses.visualization.sheets import GT_COLOR, RESULT_COLOR, draw_boxes, overlay


def read_image(path: str | Path) -> np.ndarray:
    """RGB image (h, w, 3) uint8.

    Raises:
        FileNotFoundError: OpenCV cannot read the file.
    """
    image = cv2.imread(str(path))
    if image is None:
        raise FileNotFoundError(f'{path} is not an image that OpenCV can read.')
    return image[..., ::-1]


def plot_results(
    results: Sequence[tuple[np.ndarray, InstanceData, InstanceData]],
    classes: Sequence[str],
    path: Path,
    score_thr: float = 0.3,
) -> None:
    """Write a grid of images: ground truth on the left, predictions on the right.

    Args:
        results: RGB image, ground truth and predictions, for each image.
    """
    rows = (len(results) + 1) // 2
    figure = Figure(figsize=(11, 2.9 * rows), layout='constrained')
    panels = figure.subplots(rows, 4, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    for i, (image, gt, predictions) in enumerate(results):
        left, right = panels[i // 2, 2 * (i % 2) : 2 * (i % 2) + 2]
        titles = ('ground truth', f'predictions (score > {score_thr:g})')
        for axes, title in zip((left, right), titles, strict=True):
            axes.imshow(image)
            axes.set_title(title, fontsize=9)
        draw_boxes(left, gt, classes, GT_COLOR)
        draw_boxes(right, predictions, classes, RESULT_COLOR, score_thr)
    figure.savefig(path, dpi=110)


def plot_learning_curve(scalars: Path, path: Path) -> None:
    """Write loss terms and validation AP over training.

    Args:
        scalars: MMEngine's ``scalars.json``.
    """
    lines = [json.loads(line) for line in scalars.read_text().splitlines() if line]
    train = [line for line in lines if 'loss' in line]
    val = [line for line in lines if 'coco/bbox_mAP' in line]
    figure = Figure(figsize=(10, 3.6), layout='constrained')
    left, right = figure.subplots(1, 2)
    for name in [key for key in train[0] if key.startswith('loss')]:
        left.plot([line['iter'] for line in train], [line[name] for line in train], label=name)
    left.set(xlabel='iteration', ylabel='loss (weighted terms)', yscale='log')
    left.legend(fontsize=8)
    for name, label in (('coco/bbox_mAP', 'mAP'), ('coco/bbox_mAP_50', 'AP at IoU 0.5')):
        right.plot([line['step'] for line in val], [line[name] for line in val], 'o-', label=label)
    right.set(xlabel='epoch', ylabel='AP on the validation split', ylim=(0, 1))
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def plot_heatmap(
    image: np.ndarray,
    heatmap: np.ndarray,
    gt: InstanceData,
    classes: Sequence[str],
    path: Path,
) -> None:
    """Write the ground truth, the heatmap over the image, and the heatmap alone.

    Args:
        image: (h, w, 3) network input, RGB.
        heatmap: (C, H, W) in [0, 1]; the maximum over the classes is drawn.
    """
    best = heatmap.max(0)
    figure = Figure(figsize=(12, 4.3), layout='constrained')
    panels = figure.subplots(1, 3)
    titles = ('ground truth', 'encoded centres over the image', 'heatmap')
    for axes, title in zip(panels, titles, strict=True):
        axes.set_axis_off()
        axes.set_title(title, fontsize=10)
    panels[0].imshow(image)
    draw_boxes(panels[0], gt, classes, GT_COLOR)
    panels[1].imshow(image)
    overlay(panels[1], best, image.shape[:2])
    drawn = panels[2].imshow(best, cmap='viridis', vmin=0, vmax=1)
    for c, y, x in zip(*np.nonzero(heatmap == 1), strict=True):
        panels[2].text(x, y, classes[c], color='black', fontsize=8, ha='center', va='center')
    figure.colorbar(drawn, ax=panels[2], shrink=0.8, label='target')
    figure.savefig(path, dpi=110)
