"""Sheets: ground truth, targets and decoded boxes of one image, drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from mmengine.structures import InstanceData

from mmdet_losses.core import Size

# Okabe and Ito's colours, which colour-blind readers can distinguish
GT_COLOR, MISSED_COLOR, RESULT_COLOR = '#009E73', '#D55E00', '#0072B2'
PAIR_COLOR, KEYPOINT_COLOR, MOTION_COLOR = '#E69F00', '#CC79A7', '#F0E442'
IGNORED_COLOR = '#999999'


class SheetContent(NamedTuple):
    """Everything that a sheet shows; boxes are xyxy pixels of ``image``."""

    image: np.ndarray
    """(h, w, 3) network input, RGB."""
    gt: InstanceData
    missed: np.ndarray
    """(n,) bool, objects of ``gt`` that no target represents."""
    heatmaps: dict[str, np.ndarray]
    """Name -> (C, H, W) in [0, 1]."""
    anchors: np.ndarray
    """(m, 4) positive anchors or cells."""
    results: InstanceData
    """Decoded boxes, with ``keypoints`` or ``tracking`` if the detector has them."""
    title: str = 'decoded'
    """Of the panel with ``results``."""
    pairs: np.ndarray | None = None
    """(p, 2, 2), top-left and bottom-right corner (x, y) of each object; lines on the heatmaps
    whose names begin with tl or br."""
    ignored: np.ndarray = np.zeros((0, 4))
    """(k, 4) ignored regions."""


def target_sheet(content: SheetContent, classes: Sequence[str]) -> Figure:
    """Figure with a panel for the ground truth, each heatmap, the anchors and the results."""
    gt, missed, anchors = content.gt, content.missed, content.anchors
    names = ['ground truth', *content.heatmaps]
    names += ['positive anchors'] if len(anchors) else []
    names += [content.title]
    figure, panels = _panels(content.image, names)
    for name, heatmap in content.heatmaps.items():
        axes = panels[names.index(name)]
        overlay(axes, heatmap.max(0), content.image.shape[:2])
        if content.pairs is not None and name.startswith(('tl ', 'br ')):
            for line in content.pairs:
                axes.plot(*line.T, '.-', color=PAIR_COLOR, lw=1, markersize=4)
    draw_boxes(panels[0], gt[~missed], classes, GT_COLOR)
    draw_boxes(panels[0], gt[missed], classes, MISSED_COLOR, style='--')
    for x1, y1, x2, y2 in content.ignored:
        region = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=IGNORED_COLOR, hatch='//')
        panels[0].add_patch(region)
    _draw_points(panels[0], gt)
    for x1, y1, x2, y2 in anchors:
        box = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=RESULT_COLOR, lw=0.9)
        panels[-2].add_patch(box)
    draw_boxes(panels[-1], content.results, classes, RESULT_COLOR)
    _draw_points(panels[-1], content.results)
    figure.legend(handles=_legend(content), loc='outside lower center', ncols=3, fontsize=9)
    return figure


def _panels(image: np.ndarray, names: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """A figure with the image in one panel per name."""
    columns = min(len(names), 4)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.8 * rows), layout='constrained')
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels:
        axes.set_axis_off()
    for axes, name in zip(panels, names, strict=False):
        axes.imshow(image)
        axes.set_title(name, fontsize=10)
        axes.set_xlim(0, image.shape[1])
        axes.set_ylim(image.shape[0], 0)
    return figure, panels[: len(names)]


def draw_boxes(
    axes: Axes,
    instances: InstanceData,
    classes: Sequence[str],
    color: str,
    score_thr: float = 0.3,
    style: str = '-',
) -> None:
    """Outline boxes and label them with class and, if they have one, score."""
    boxes, labels = np.asarray(instances.bboxes), np.asarray(instances.labels)
    scores = np.asarray(instances.scores) if 'scores' in instances else np.ones(len(boxes))
    for (x1, y1, x2, y2), label, score in zip(boxes, labels, scores, strict=True):
        if score < score_thr:
            continue
        text = classes[label] + (f' {score:.2f}' if 'scores' in instances else '')
        axes.add_patch(
            Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=color, lw=1.3, ls=style)
        )
        axes.text(
            x1, y1, text, fontsize=7, color='white', va='bottom',
            bbox={'facecolor': color, 'edgecolor': 'none', 'pad': 0.6},
        )  # fmt: skip


def as_array(figure: Figure, dpi: int = 110) -> np.ndarray:
    """(h, w, 3) RGB uint8 of a figure; needs no display."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def overlay(axes: Axes, heatmap: np.ndarray, size: Size) -> None:
    """Draw a heatmap (H, W) in [0, 1] over an image of this size (h, w)."""
    enlarged = cv2.resize(heatmap, size[::-1], interpolation=cv2.INTER_NEAREST)
    axes.imshow(np.ma.masked_less(enlarged, 0.02), cmap='viridis', alpha=0.7, vmin=0, vmax=1)


def _draw_points(axes: Axes, instances: InstanceData) -> None:
    """Draw labelled keypoints and displacements, if the instances have them."""
    if 'keypoints' in instances:
        points = np.asarray(instances.keypoints).reshape(len(instances), -1, 2)
        shown = np.ones(points.shape[:2], bool)
        if 'keypoints_visible' in instances:
            shown = np.asarray(instances.keypoints_visible) > 0
        axes.plot(*points[shown].T, '.', color=KEYPOINT_COLOR, markersize=4)
    if 'tracking' in instances:
        boxes, moves = np.asarray(instances.bboxes), np.asarray(instances.tracking)
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        axes.quiver(
            *centers.T, *moves.T, angles='xy', scale_units='xy', scale=1, color=MOTION_COLOR,
            width=0.006,
        )  # fmt: skip


def _legend(content: SheetContent) -> list[Line2D]:
    """Legend entries; those of keypoints, pairs and displacements only if there are any."""
    gt, results, missed = content.gt, content.results, int(content.missed.sum())
    anchors = f', {len(content.anchors)} anchors' if len(content.anchors) else ''
    counts = f'{len(results)} {content.title}{anchors}'
    entries = [
        Line2D([], [], color=GT_COLOR, label=f'{len(gt) - missed} objects with a target'),
        Line2D([], [], color=MISSED_COLOR, ls='--', label=f'{missed} without'),
        Line2D([], [], color=RESULT_COLOR, label=counts),
    ]
    if content.pairs is not None:
        label = f'{len(content.pairs)} corner pairs'
        entries.append(Line2D([], [], color=PAIR_COLOR, marker='.', label=label))
    if len(content.ignored):
        label = f'{len(content.ignored)} ignored regions'
        entries.append(Line2D([], [], color=IGNORED_COLOR, ls=':', label=label))
    if 'keypoints' in gt or 'keypoints' in results:
        entries.append(Line2D([], [], color=KEYPOINT_COLOR, marker='.', ls='', label='keypoints'))
    if 'tracking' in results:
        label = 'displacement to the previous frame'
        entries.append(Line2D([], [], color=MOTION_COLOR, label=label))
    return entries
