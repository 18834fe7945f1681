"""Round trips of the YOLO encoders, for any boxes in distinct cells."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.structures import InstanceData

from mmdet_losses.detectors.yolo import YOLOV1Loss, YOLOV1Predictor
from mmdet_losses.registry import TASK_UTILS

SIZE = (96, 160)
GRID = ((6, 8), (3, 4))
SMALL = ((24, 40), (60, 30), (16, 20))
LARGE = ((100, 60), (60, 80))
ENCODERS = {
    'YOLOV1': dict(type='YOLOV1TargetEncoder'),
    'YOLOV1, softmax': dict(type='YOLOV1TargetEncoder', softmax=True),
    'YOLOV2': dict(type='YOLOV2TargetEncoder', anchors=(SMALL,)),
    'YOLOV3': dict(type='YOLOV3TargetEncoder', anchors=(SMALL, LARGE)),
    'YOLOV4': dict(type='YOLOV4TargetEncoder', anchors=(SMALL, LARGE), scale_xy=(1.1, 1.05)),
    'ScaledYOLOV4': dict(type='ScaledYOLOV4TargetEncoder', anchors=(SMALL, LARGE)),
}


@st.composite
def images(draw):
    """Up to four objects, three coarse cells apart from each other at least in one direction."""
    cells = draw(st.lists(st.sampled_from([(0, 0), (0, 2), (2, 0), (2, 2)]), unique=True))
    boxes = []
    for row, column in cells:
        x = 40 * (column + draw(st.floats(0.2, 0.8)))
        y = 32 * (row + draw(st.floats(0.2, 0.8)))
        width = draw(st.floats(10, 2 * min(x, 160 - x)))
        height = draw(st.floats(8, 2 * min(y, 96 - y))) if min(y, 96 - y) > 4 else 8.0
        boxes.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    labels = [draw(st.integers(0, 2)) for _ in boxes]
    return InstanceData(
        bboxes=torch.tensor(boxes).view(-1, 4), labels=torch.tensor(labels, dtype=torch.long)
    )


@pytest.mark.parametrize('stem', ENCODERS)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(found=images())
def test_round_trip(stem, found):
    encoder = TASK_UTILS.build(dict(ENCODERS[stem], num_classes=3))
    feats = GRID if len(ENCODERS[stem].get('anchors', ' ')) == 2 else GRID[:1]
    targets = encoder.encode([found], feats, SIZE)
    decoded = encoder.decode(encoder.ideal_outputs(targets), SIZE)[0]
    decoded = decoded[decoded.scores > 0.5]
    for box, label in zip(found.bboxes, found.labels, strict=True):
        same = decoded.bboxes[decoded.labels == label]
        if stem == 'ScaledYOLOV4' and not claimed(encoder, box):
            continue
        assert (same - box).abs().amax(1).min() < 0.02
    if len(found) == 0:
        assert len(decoded) == 0 and targets.num_pos == 0


def claimed(encoder, box):
    """Whether some anchor is within four times the size of the box."""
    size = box[2:] - box[:2]
    anchors = torch.tensor([each for level in encoder.anchors for each in level])
    ratio = size / anchors
    return bool((torch.maximum(ratio, 1 / ratio).amax(1) < 4).any())


def test_shared_weights_of_yolov1_move_with_the_input():
    predictor = YOLOV1Predictor(3, 8, (6, 6), 6, 2, hidden='shared', hidden_channels=16).eval()
    feats = torch.randn(2, 8, 6, 6)
    outputs = predictor((feats,))
    assert [each.shape[1:] for each in outputs] == [(3, 6, 6), (2, 6, 6), (2, 4, 6, 6)]
    moved = predictor((feats.roll(1, -1),))
    for one, other in zip(outputs, moved, strict=True):
        torch.testing.assert_close(one[..., 1:4], other[..., 2:5])
    with pytest.raises(ValueError, match=r"feat_size=\(6, 5\) with hidden='shared'"):
        YOLOV1Predictor(3, 8, (6, 5), 6, 2, hidden='shared')


def test_decoded_scores_are_the_softmax_that_the_loss_trains():
    encoder = TASK_UTILS.build(dict(type='YOLOV1TargetEncoder', num_classes=3, softmax=True))
    ground_truth = InstanceData(bboxes=torch.tensor([[10.0, 8, 60, 70]]), labels=torch.tensor([1]))
    targets = encoder.encode([ground_truth], [GRID[0]], SIZE)
    ideal = encoder.ideal_outputs(targets)
    loss = YOLOV1Loss(softmax=True)(ideal, targets)
    assert loss['loss_cls'] < 1e-6
    scores = encoder.decode(ideal._replace(cls=15 * ideal.cls), SIZE)[0].scores
    assert scores.max() == 1


@pytest.mark.parametrize('stem', ['YOLOV2', 'YOLOV3', 'YOLOV4', 'ScaledYOLOV4'])
def test_positive_boxes_are_the_anchors_in_their_cells(stem):
    encoder = TASK_UTILS.build(dict(ENCODERS[stem], num_classes=3))
    feats = GRID[: len(ENCODERS[stem]['anchors'])]
    found = InstanceData(
        bboxes=torch.tensor([[10.0, 8, 40, 52], [70, 20, 150, 90]]), labels=torch.tensor([1, 0])
    )
    targets = encoder.encode([found], feats, SIZE)
    want = []
    for (height, width), anchors, level in zip(feats, encoder.anchors, targets.levels, strict=True):
        positive = level.mask if stem == 'ScaledYOLOV4' else level.positive
        for number, (w, h) in enumerate(anchors):
            for slot in range(positive.shape[2]):
                if positive[0, number, slot]:
                    index = level.index[0, number] if stem == 'ScaledYOLOV4' else level.index[0]
                    row, column = divmod(int(index[slot]), width)
                    x, y = (column + 0.5) * SIZE[1] / width, (row + 0.5) * SIZE[0] / height
                    want.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    boxes = encoder.positive_boxes(targets, feats, SIZE)
    assert len(want) == targets.num_pos >= 2
    torch.testing.assert_close(boxes, torch.tensor(want))


def test_positive_boxes_of_yolov1_are_cells():
    encoder = TASK_UTILS.build(dict(type='YOLOV1TargetEncoder', num_classes=3))
    found = InstanceData(bboxes=torch.tensor([[10.0, 8, 40, 52]]), labels=torch.tensor([1]))
    targets = encoder.encode([found], [(6, 8)], SIZE)  # cells of 20 x 16 pixels
    boxes = encoder.positive_boxes(targets, [(6, 8)], SIZE)
    assert boxes.tolist() == [[20.0, 16.0, 40.0, 32.0]]


TINY = dict(
    type='YOLOV4TargetEncoder',
    num_classes=3,
    anchors=[[(30, 30), (60, 60)], [(20, 20), (30, 30)]],
    all_anchors=[(10, 10), (20, 20), (30, 30), (60, 60)],
    masks=[(2, 3), (1, 2)],
    scale_xy=1.0,
    iou_threshold=1.0,
)
"""Anchor 0 belongs to no map, anchor 2 to both, as in yolov4-tiny.cfg."""


def test_an_object_of_an_anchor_without_a_map_has_no_target_and_one_of_two_maps_has_two():
    encoder = TASK_UTILS.build(TINY)
    sides = torch.tensor([11.0, 19, 31, 70])
    boxes = torch.cat((torch.full((4, 2), 20.0), 20 + sides[:, None].expand(4, 2)), 1)
    found = InstanceData(bboxes=boxes, labels=torch.zeros(4, dtype=torch.long))
    targets = encoder.encode([found], [(3, 5), (6, 10)], (96, 160))
    coarse, fine = (level.positive[0].int().tolist() for level in targets.levels)
    assert coarse == [[0, 0, 1, 0], [0, 0, 0, 1]]
    assert fine == [[0, 1, 0, 0], [0, 0, 1, 0]]
    assert targets.num_pos == 4


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(masks=None), 'belong together'),
        (dict(masks=[(2, 3), (1, 3)]), r'masks=.* select .*; give'),
    ],
)
def test_masks_that_do_not_give_the_anchors_raise(changes, message):
    with pytest.raises(ValueError, match=message):
        TASK_UTILS.build(TINY | changes)
