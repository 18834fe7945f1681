"""Sheets: corner pairs, keypoints and displacements are drawn and listed in the legend."""

import numpy as np
import torch
from matplotlib.colors import to_hex
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from mmdet_losses.registry import TASK_UTILS
from mmdet_losses.visualization.sheets import (
    KEYPOINT_COLOR,
    MOTION_COLOR,
    PAIR_COLOR,
    SheetContent,
    target_sheet,
)
from mmdet_losses.visualization.targets import corner_pairs

BOXES = torch.tensor([[9.0, 6.0, 41.0, 50.0], [60.0, 20.0, 90.0, 44.0]])


def instances(**more):
    scores, labels = torch.ones(len(BOXES)), torch.zeros(len(BOXES), dtype=torch.long)
    return InstanceData(bboxes=BOXES.clone(), labels=labels, scores=scores, **more)


def encoded(kind):
    with DefaultScope.overwrite_default_scope('mmdet'):
        encoder = TASK_UTILS.build(dict(type=f'{kind}TargetEncoder', num_classes=2))
    return encoder.encode([instances()], [(16, 12)], (64, 96))  # strides 8 along x, 4 along y


def drawn(axes, color):
    return [line for line in axes.lines if to_hex(line.get_color()).upper() == color]


def sheet(gt, results, **more):
    maps = {'tl heatmap': np.zeros((1, 16, 12)), 'attentions': np.zeros((1, 16, 12))}
    missed, image = np.zeros(len(gt), bool), np.zeros((64, 96, 3), np.uint8)
    content = SheetContent(image, gt, missed, maps, np.zeros((0, 4)), results, **more)
    figure = target_sheet(content, 'ab')
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    return figure.axes, labels


def test_pairs_are_the_corners_of_the_objects():
    pairs = corner_pairs(encoded('CornerNet'), (64, 96))
    assert np.allclose(pairs, BOXES.view(2, 2, 2))
    assert corner_pairs(encoded('CenterNetPoints'), (64, 96)) is None


def test_pairs_are_drawn_on_the_corner_heatmaps():
    axes, labels = sheet(instances(), instances(), pairs=BOXES.view(2, 2, 2).numpy())
    assert '2 corner pairs' in labels
    assert not any('anchors' in label for label in labels)  # there are none to count
    assert [len(drawn(each, PAIR_COLOR)) for each in axes[:4]] == [0, 2, 0, 0]
    assert drawn(axes[1], PAIR_COLOR)[0].get_xydata().tolist() == [[9, 6], [41, 50]]


def test_labelled_keypoints_are_drawn():
    points = torch.arange(8.0).view(2, 2, 2)
    gt = instances(keypoints=points, keypoints_visible=torch.tensor([[2, 0], [1, 2]]))
    axes, labels = sheet(gt, instances(keypoints=points))
    assert 'keypoints' in labels
    (shown,), (predicted,) = drawn(axes[0], KEYPOINT_COLOR), drawn(axes[3], KEYPOINT_COLOR)
    assert shown.get_xydata().tolist() == [[0, 1], [4, 5], [6, 7]]
    assert len(predicted.get_xydata()) == 4


def test_displacements_have_a_colour_and_a_legend_entry():
    axes, labels = sheet(instances(), instances(tracking=torch.ones(2, 2)))
    assert 'displacement to the previous frame' in labels
    assert to_hex(axes[3].collections[0].get_facecolor()[0]).upper() == MOTION_COLOR
    assert sheet(instances(), instances())[1] == [
        '2 objects with a target', '0 without', '2 decoded',
    ]  # fmt: skip
