"""Oracle: lost objects, one match per box, and an error for heads without an encoder."""

import pytest
import torch
from mmengine.structures import InstanceData
from torch import nn

from mmdet_losses.detectors.center import CenterNetPointsOutputs, CenterNetPointsTargetEncoder
from mmdet_losses.metrics.oracle import (
    Perfect,
    lost,
    moved,
    nearest_object,
    with_ideal_branch,
)


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


def test_every_cell_has_the_values_of_the_nearest_object():
    values = torch.zeros(2, 1, 3, 4)
    values[0, 0, 0, 0], values[0, 0, 2, 3] = 5, 7
    index, mask = torch.tensor([[0, 11, 0]] * 2), torch.tensor([[True, True, False], [False] * 3])
    want = torch.tensor([[5.0, 5, 5, 7], [5, 5, 7, 7], [5, 7, 7, 7]])
    found = nearest_object(values, index, mask)
    assert found[0, 0].equal(want)
    assert found[1].equal(values[1])


def test_the_ground_truth_replaces_one_branch_of_a_network():
    boxes = torch.tensor([[4.0, 8, 30, 40], [40, 10, 52, 58]])
    encoder = CenterNetPointsTargetEncoder(3, topk=100)
    gt = InstanceData(bboxes=boxes, labels=torch.tensor([2, 0]))
    targets = encoder.encode([gt], [(16, 16)], (64, 64))
    ideal = encoder.ideal_outputs(targets)
    generator = torch.Generator().manual_seed(0)
    shapes = ((1, 3, 16, 16), (1, 2, 16, 16), (1, 2, 16, 16))
    outputs = CenterNetPointsOutputs(*(torch.randn(s, generator=generator) for s in shapes))
    for name in ('size', 'offset'):
        mixed = with_ideal_branch(outputs, ideal, targets, name)
        assert mixed._replace(**{name: getattr(outputs, name)}) == outputs
        outputs = mixed
    # the right sizes at the network's own centres; the decoder clips boxes at the image
    sizes = {tuple((each[2:] - each[:2]).tolist()) for each in boxes}
    [found] = encoder.decode(outputs, (64, 64))
    whole = found.bboxes[((found.bboxes > 0) & (found.bboxes < 64)).all(1)]
    own = (whole[:, 2:] - whole[:, :2]).round(decimals=3)
    assert {tuple(each) for each in own.tolist()} == sizes
    [found] = encoder.decode(with_ideal_branch(outputs, ideal, targets, 'heatmap'), (64, 64))
    found = found[found.scores > 0.9]
    assert torch.allclose(found.bboxes[found.labels.argsort()], boxes[[1, 0]], atol=1e-4)
