"""Sheets of one picture: its truth, what an encoder writes for it, and what was said about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from mmengine.structures import InstanceData

from mmdet_losses.core import Size
from mmdet_losses.ops import Splats

# Okabe and Ito's colours, told apart by colour-blind readers too
TRUTH, FOUND, POINT = '#009E73', '#D55E00', '#0072B2'
PAIR, KEYPOINT, MOVE = '#E69F00', '#CC79A7', '#F0E442'


def draw_boxes(
    axes: Axes,
    instances: InstanceData,
    classes: Sequence[str],
    color: str,
    score_thr: float = 0.3,
    style: str = '-',
) -> None:
    """Outline boxes with their class, and their score where they have one."""
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


def target_sheet(
    picture: np.ndarray,
    truth: InstanceData,
    gone: np.ndarray,
    maps: dict[str, np.ndarray],
    anchors: np.ndarray,
    said: InstanceData,
    classes: Sequence[str],
    last_title: str = 'decoded',
    pairs: np.ndarray | None = None,
) -> Figure:
    """Truth, encoded heatmaps, positive anchors, and what all of it decodes to; with a legend.

    Args:
        picture: (h, w, 3) network input in RGB.
        gone: (n,) bool, objects of ``truth`` that no target stands for; drawn dashed.
        maps: name -> (C, H, W) in [0, 1].
        anchors: (m, 4) xyxy pixels.
        last_title: says what ``said`` is.
        pairs: (p, 2, 2), for every pair of corners (x, y) top-left and bottom-right in pixels;
            lines on the maps of corners, whose names begin with tl or br.
        said: decoded boxes, and ``keypoints`` or ``tracking`` where the detector has them.
    """
    names = ['ground truth', *maps, *(['positive anchors'] if len(anchors) else []), last_title]
    columns = min(len(names), 4)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.8 * rows), layout='constrained')
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, name in zip(panels.flat, names, strict=False):
        axes.imshow(picture)
        axes.set_title(name, fontsize=10)
        axes.set_xlim(0, picture.shape[1])
        axes.set_ylim(picture.shape[0], 0)
        if name in maps:
            overlay(axes, maps[name].max(0), picture.shape[:2])
            for line in () if pairs is None or name[:3] not in ('tl ', 'br ') else pairs:
                axes.plot(*line.T, '.-', color=PAIR, lw=1, markersize=4)
    first, last = panels.flat[0], panels.flat[len(names) - 1]
    draw_boxes(first, truth[~gone], classes, TRUTH)
    draw_boxes(first, truth[gone], classes, FOUND, style='--')
    if len(anchors):
        axes = panels.flat[len(names) - 2]
        for x1, y1, x2, y2 in anchors:
            axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=POINT, lw=0.9))
    draw_boxes(last, said, classes, POINT)
    _draw_points(first, truth)
    _draw_points(last, said)
    legend = [
        Line2D([], [], color=TRUTH, label=f'{int((~gone).sum())} objects with a target'),
        Line2D([], [], color=FOUND, ls='--', label=f'{int(gone.sum())} without'),
        Line2D([], [], color=POINT, label=f'{len(said)} {last_title}, {len(anchors)} anchors'),
        *_further_entries(truth, said, pairs),
    ]
    figure.legend(handles=legend, loc='outside lower center', ncols=3, fontsize=9)
    return figure


def as_array(figure: Figure, dpi: int = 110) -> np.ndarray:
    """(h, w, 3) RGB uint8 of a figure, without any window or backend."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def overlay(axes: Axes, heatmap: np.ndarray, size: tuple[int, int]) -> None:
    """Lay a heatmap (H, W) in [0, 1] over a picture of this size (h, w)."""
    enlarged = cv2.resize(heatmap, size[::-1], interpolation=cv2.INTER_NEAREST)
    axes.imshow(np.ma.masked_less(enlarged, 0.02), cmap='viridis', alpha=0.7, vmin=0, vmax=1)


def _draw_points(axes: Axes, instances: InstanceData) -> None:
    """Keypoints (those that are labelled) and displacements, where the instances have them."""
    if 'keypoints' in instances:
        points = np.asarray(instances.keypoints).reshape(len(instances), -1, 2)
        shown = np.ones(points.shape[:2], bool)
        if 'keypoints_visible' in instances:
            shown = np.asarray(instances.keypoints_visible) > 0
        axes.plot(*points[shown].T, '.', color=KEYPOINT, markersize=4)
    if 'tracking' in instances:
        boxes, moves = np.asarray(instances.bboxes), np.asarray(instances.tracking)
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2
        axes.quiver(
            *middles.T, *moves.T, angles='xy', scale_units='xy', scale=1, color=MOVE, width=0.006
        )


def _further_entries(
    truth: InstanceData, said: InstanceData, pairs: np.ndarray | None
) -> list[Line2D]:
    """Legend of what not every detector has."""
    entries = []
    if pairs is not None:
        entries.append(Line2D([], [], color=PAIR, marker='.', label=f'{len(pairs)} corner pairs'))
    if 'keypoints' in truth or 'keypoints' in said:
        entries.append(Line2D([], [], color=KEYPOINT, marker='.', ls='', label='keypoints'))
    if 'tracking' in said:
        entries.append(Line2D([], [], color=MOVE, label='displacement to the previous frame'))
    return entries


def corner_pairs(targets: tuple, img_size: Size) -> np.ndarray | None:
    """(p, 2, 2) corners (x, y) of the first picture's objects in pixels; None without corners."""
    if 'tl_index' not in targets._fields or 'br_index' not in targets._fields:
        return None
    height, width = targets.tl_heatmap.shape[-2:]
    stride, mask = torch.tensor([img_size[1] / width, img_size[0] / height]), targets.mask[0].cpu()
    points = []
    for name in ('tl', 'br'):
        cell = getattr(targets, f'{name}_index')[0].cpu()[mask]
        offset = getattr(targets, f'{name}_offset')[0].cpu()[mask]
        points.append((torch.stack((cell % width, cell // width), -1) + offset) * stride)
    return torch.stack(points, 1).numpy()


def heat_maps(targets: tuple) -> Iterator[tuple[str, np.ndarray]]:
    """(name, (C, H, W) map of the first picture) of every heatmap among the targets."""
    for name, value in zip(targets._fields, targets, strict=True):
        levels = value if type(value) is tuple else (value,)
        for number, each in enumerate(levels):
            if isinstance(each, Splats):
                label = name if len(levels) == 1 else f'{name} {number}'
                yield label.replace('_', ' '), each.dense()[0].cpu().numpy()


def as_picture(tensor: torch.Tensor, preprocessor: torch.nn.Module) -> np.ndarray:
    """(h, w, 3) RGB uint8 of a normalised input (3, h, w)."""
    if getattr(preprocessor, '_enable_normalize', False):
        tensor = tensor * preprocessor.std + preprocessor.mean
    picture = tensor.clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
    keeps_bgr = not getattr(preprocessor, '_channel_conversion', False)
    return np.ascontiguousarray(picture[..., ::-1] if keeps_bgr else picture)
