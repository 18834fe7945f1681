"""Oracle: lost objects, one match per box, and an error for heads without an encoder."""

import pytest
import torch
from mmengine.structures import InstanceData
from torch import nn

from mmdet_losses.metrics.oracle import Perfect, lost, moved


def instances(rows, scores=None):
    boxes = torch.tensor([row[:4] for row in rows]).view(-1, 4).float()
    found = InstanceData(bboxes=boxes, labels=torch.tensor([row[4] for row in rows]).long())
    if scores is not None:
        found.scores = torch.tensor(scores)
    return found


GT = instances([(0, 0, 10, 10, 1), (20, 20, 30, 30, 2)])


def test_an_object_is_matched_by_a_box_of_its_class():
    same = instances([(0, 0, 10, 10, 1), (20, 20, 30, 30, 2)], [0.9, 0.8])
    assert lost(GT, same).tolist() == [False, False]
    other = instances([(0, 0, 10, 10, 3), (20, 20, 30, 30, 2)], [0.9, 0.8])
    assert lost(GT, other).tolist() == [True, False]
    assert lost(GT, instances([(4, 0, 14, 10, 1)], [0.9])).tolist() == [True, True]
    assert lost(GT, instances([(0, 0, 10, 10, 1)], [0.1])).tolist() == [True, True]
    assert lost(GT, instances([], [])).tolist() == [True, True]
    assert lost(instances([]), same).tolist() == []


def test_one_box_matches_one_object():
    twins = instances([(0, 0, 10, 10, 1), (0, 0, 10, 9, 1)])
    assert lost(twins, instances([(0, 0, 10, 10, 1)], [0.9])).tolist() == [False, True]


def test_a_head_without_an_encoder_raises_an_error():
    with pytest.raises(TypeError, match='the head of this detector is NoneType'):
        Perfect(nn.Identity())


def test_gt_boxes_are_converted_to_original_pixels_like_the_results():
    boxes = torch.tensor([[30.0, 20.0, 60.0, 50.0], [10.0, 10.0, 20.0, 30.0]])
    meta = dict(scale_factor=(2.0, 4.0), border=(10.0, 90.0, 10.0, 90.0))
    back = torch.tensor([[10.0, 2.5, 25.0, 10.0], [0.0, 0.0, 5.0, 5.0]])
    assert moved(boxes, meta, rescale=True).equal(back)
    assert moved(boxes, dict(scale_factor=(2.0, 4.0)), rescale=False).equal(boxes)
