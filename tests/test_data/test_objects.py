"""Objects that transforms move and drop stay together."""

import numpy as np
import pytest

from mmdet_losses.data.objects import (
    CrowdAnnotations,
    CrowdsAsObjects,
    DropIgnored,
    join_objects,
    learned,
    put_objects,
)
from tests.test_data.samples import boxes_of, item

BOXES = [[0, 0, 10, 10], [20, 20, 30, 50], [5, 5, 9, 9]]


def test_rows_of_all_entries_follow_the_boxes():
    results = item(BOXES, ignored=[False, True, False])
    results['gt_instances_ids'] = np.array([7, 8, 9])
    put_objects(results, np.array(BOXES) + 1.0, np.array([2, 0]))
    assert boxes_of(results).tolist() == [[6, 6, 10, 10], [1, 1, 11, 11]]
    assert results['gt_bboxes_labels'].tolist() == [2, 0]
    assert results['gt_instances_ids'].tolist() == [9, 7]
    put_objects(results, boxes_of(results), np.array([False, True]))
    assert results['gt_bboxes_labels'].tolist() == [0]


def test_joined_objects_keep_their_order():
    one, two = item(BOXES[:2]), item(BOXES[2:])
    joined = join_objects([one, two, item([])])
    assert joined.keys() == {'gt_bboxes_labels', 'gt_ignore_flags'}
    assert joined['gt_bboxes_labels'].tolist() == [0, 1, 0]


def test_crowds_become_objects():
    results = CrowdsAsObjects()(item(BOXES, ignored=[False, True, True]))
    assert learned(results).all()
    assert len(results['gt_bboxes']) == 3


def test_ignored_objects_are_removed():
    results = DropIgnored()(item(BOXES, ignored=[False, True, False]))
    assert results['gt_bboxes_labels'].tolist() == [0, 2]
    assert boxes_of(results).tolist() == [BOXES[0], BOXES[2]]
    assert len(DropIgnored()(item([]))['gt_bboxes']) == 0


def test_ignored_objects_stay_regions_of_their_own_or_of_all_classes():
    for all_classes, labels in ((False, [0, 1, 2]), (True, [0, -1, 2])):
        results = item(BOXES, ignored=[False, True, False])
        results['gt_bboxes_labels'] = np.arange(3)
        results = CrowdAnnotations('ignore', all_classes)(results)
        assert learned(results).tolist() == [True, False, True]
        assert results['gt_bboxes_labels'].tolist() == labels
    with pytest.raises(ValueError, match="crowd='keep' is unknown"):
        CrowdAnnotations('keep')
