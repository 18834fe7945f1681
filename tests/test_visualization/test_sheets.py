"""Corner pairs lie on their objects, and what is drawn stands in the legend."""

import numpy as np
import torch
from matplotlib.colors import to_hex
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from mmdet_losses.registry import TASK_UTILS
from mmdet_losses.visualization.sheets import KEYPOINT, MOVE, PAIR, corner_pairs, target_sheet

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


def sheet(truth, said, **more):
    maps = {'tl heatmap': np.zeros((1, 16, 12)), 'attentions': np.zeros((1, 16, 12))}
    gone, picture = np.zeros(len(truth), bool), np.zeros((64, 96, 3), np.uint8)
    figure = target_sheet(picture, truth, gone, maps, np.zeros((0, 4)), said, 'ab', **more)
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    return figure.axes, words


def test_pairs_are_the_corners_of_their_objects():
    pairs = corner_pairs(encoded('CornerNet'), (64, 96))
    assert np.allclose(pairs, BOXES.view(2, 2, 2))
    assert corner_pairs(encoded('CenterNetPoints'), (64, 96)) is None


def test_pairs_are_drawn_on_the_maps_of_corners():
    axes, words = sheet(instances(), instances(), pairs=BOXES.view(2, 2, 2).numpy())
    assert '2 corner pairs' in words
    assert [len(drawn(each, PAIR)) for each in axes[:4]] == [0, 2, 0, 0]
    assert drawn(axes[1], PAIR)[0].get_xydata().tolist() == [[9, 6], [41, 50]]


def test_keypoints_of_the_truth_are_drawn_where_they_are_labelled():
    points = torch.arange(8.0).view(2, 2, 2)
    truth = instances(keypoints=points, keypoints_visible=torch.tensor([[2, 0], [1, 2]]))
    axes, words = sheet(truth, instances(keypoints=points))
    assert 'keypoints' in words
    (shown,), (said,) = drawn(axes[0], KEYPOINT), drawn(axes[3], KEYPOINT)
    assert shown.get_xydata().tolist() == [[0, 1], [4, 5], [6, 7]]
    assert len(said.get_xydata()) == 4


def test_displacements_have_a_colour_and_an_entry():
    axes, words = sheet(instances(), instances(tracking=torch.ones(2, 2)))
    assert 'displacement to the previous frame' in words
    assert to_hex(axes[3].collections[0].get_facecolor()[0]).upper() == MOVE
    assert sheet(instances(), instances())[1] == [
        '2 objects with a target', '0 without', '2 decoded, 0 anchors',
    ]  # fmt: skip
