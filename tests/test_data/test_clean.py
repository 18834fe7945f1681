"""Invalid boxes are dropped with their other annotations, counted, and logged once."""

import re

import numpy as np
import pytest
import torch
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from torch.utils.data import DataLoader, Dataset

from mmdet_losses.data.clean import REASONS, CheckAnnotations, DataError, box_faults
from mmdet_losses.registry import TRANSFORMS

GOOD = [[5, 6, 20, 30], [-8, -8, 4, 4], [90, 50, 130, 70]]  # the last two are partly outside
BAD = {
    'not finite': [[float('nan'), 2, 9, 9], [1, 2, float('inf'), 9]],
    'inverted': [[9, 2, 1, 9], [1, 9, 9, 2]],
    'of zero size': [[3, 3, 3, 9], [3, 3, 9, 3]],
    'of impossible size': [[-1e9, 2, 1e9, 9], [5, 5, 9, 1e30], [-5, -5, 9, 9996]],
    'outside the image': [[-9, 2, 0, 9], [100, 2, 120, 9], [2, -9, 9, 0], [2, 60, 9, 70]],
}
SIZE = (60, 100)


def record(boxes, labels=None, box_type=HorizontalBoxes):
    n = len(boxes)
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    return dict(
        img_path='somewhere/7.jpg',
        img_shape=SIZE,
        gt_bboxes=boxes if box_type is None else box_type(boxes),
        gt_bboxes_labels=np.arange(n) if labels is None else np.asarray(labels),
        gt_ignore_flags=np.arange(n) % 2 == 1,
        gt_masks=BitmapMasks(
            np.arange(n, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4)), 4, 4
        ),
        gt_keypoints=np.arange(n * 6, dtype=np.float32).reshape(n, 3, 2),
    )


@pytest.fixture(name='messages')
def _messages(monkeypatch):
    lines = []
    monkeypatch.setattr('mmdet_losses.data.clean.print_log', lambda text, **_: lines.append(text))
    return lines


@pytest.mark.parametrize('reason', BAD)
def test_every_fault_has_a_reason(reason):
    assert [REASONS[i] for i in box_faults(np.array(BAD[reason]), SIZE)] == [reason] * len(
        BAD[reason]
    )


def test_good_boxes_have_no_fault():
    assert box_faults(np.array(GOOD, float), SIZE).tolist() == [-1, -1, -1]


@pytest.mark.parametrize('box_type', [HorizontalBoxes, None])
def test_valid_boxes_keep_all_their_annotations(box_type, messages):
    bad = [box for boxes in BAD.values() for box in boxes]
    mixed = [GOOD[0], *bad[:5], GOOD[1], *bad[5:], GOOD[2]]
    transform = CheckAnnotations()
    results = transform(record(mixed, box_type=box_type))
    kept = [0, 6, len(mixed) - 1]
    boxes = results['gt_bboxes']
    corners = boxes if box_type is None else boxes.tensor.numpy()
    np.testing.assert_array_equal(corners, np.array(GOOD, np.float32))
    np.testing.assert_array_equal(results['gt_bboxes_labels'], kept)
    np.testing.assert_array_equal(results['gt_ignore_flags'], [i % 2 == 1 for i in kept])
    np.testing.assert_array_equal(results['gt_masks'].masks[:, 0, 0], kept)
    np.testing.assert_array_equal(results['gt_keypoints'][:, 0, 0], [6 * i for i in kept])
    assert transform.counts == {**{r: len(b) for r, b in BAD.items()}, 'of unknown label': 0}


def test_each_reason_is_logged_once_with_its_first_box(messages):
    transform = CheckAnnotations()
    for _ in range(3):
        transform(record([GOOD[0], *BAD['inverted'], *BAD['of zero size']]))
    assert len(messages) == 2
    assert messages[0].startswith('somewhere/7.jpg has a box inverted, [9, 2, 1, 9]. It is dropped')
    assert 'of zero size, [3, 3, 3, 9]' in messages[1]
    assert transform.counts['inverted'] == 6


def test_valid_and_empty_records_are_not_changed(messages):
    for boxes in (GOOD, []):
        given = record(boxes)
        results = CheckAnnotations(num_classes=3)(dict(given))
        assert all(results[key] is given[key] for key in given)
    assert not messages


@pytest.mark.parametrize('label', [-1, 3])
def test_wrong_labels_raise_or_are_dropped(label, messages):
    given = record(GOOD, labels=[0, label, 2])
    with pytest.raises(DataError, match=re.escape(f'7.jpg has an object with label {label}, but')):
        CheckAnnotations(num_classes=3)(dict(given))
    results = CheckAnnotations(num_classes=3, wrong_labels='drop')(dict(given))
    assert results['gt_bboxes_labels'].tolist() == [0, 2]
    assert 'of unknown label' in messages[0]
    assert CheckAnnotations()(dict(given))['gt_bboxes_labels'].tolist() == [0, label, 2]


def test_unknown_choice_raises():
    with pytest.raises(ValueError, match="wrong_labels='ignore' is unknown; choose"):
        CheckAnnotations(wrong_labels='ignore')


class Records(Dataset):
    """Two records with two inverted boxes each, as the transform leaves them."""

    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return len(self.transform(record(BAD['inverted']))['gt_bboxes'])


def test_the_workers_of_a_data_loader_share_the_counts():
    transform = TRANSFORMS.build(dict(type='CheckAnnotations'))
    loader = DataLoader(Records(transform), batch_size=1, num_workers=2, timeout=60)
    assert [int(left) for left in loader] == [0, 0]
    assert transform.counts['inverted'] == 4


def test_boxes_equal_those_of_clean_data(messages):
    bad = [box for boxes in BAD.values() for box in boxes]
    clean = CheckAnnotations()(record(GOOD))['gt_bboxes'].tensor
    mixed = CheckAnnotations()(record([*bad, *GOOD]))['gt_bboxes'].tensor
    torch.testing.assert_close(mixed, clean, rtol=0, atol=0)
