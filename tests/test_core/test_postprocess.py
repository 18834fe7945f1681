"""postprocess: boxes at the border of the image."""

import pytest
import torch
from mmengine.structures import InstanceData

from mmdet_losses.core import postprocess
from mmdet_losses.core.postprocess import check_nms

BOXES = torch.tensor([[-4.0, 10, 30, 60], [20.0, -2, 90, 40], [5.0, 5, 10, 10]])


def instances():
    return InstanceData(
        bboxes=BOXES.clone(), scores=torch.tensor([0.9, 0.8, 0.7]), labels=torch.arange(3)
    )


@pytest.mark.parametrize(
    ('meta', 'rescale', 'expected'),
    [
        # the padded input is larger than img_shape
        ({'img_shape': (50, 80)}, False, [[0, 10, 30, 50], [20, 0, 80, 40]]),
        # the original image has twice the size
        (
            {'img_shape': (50, 80), 'ori_shape': (101, 160), 'scale_factor': (0.5, 0.5)},
            True,
            [[0, 20, 60, 101], [40, 0, 160, 80]],
        ),
        # a border of 4 rows above and 6 columns to the left
        (
            {'img_shape': (64, 96), 'border': [4, 44, 6, 76]},
            False,
            [[0, 6, 24, 40], [14, 0, 70, 36]],
        ),
    ],
)
def test_clip_limits_boxes_to_the_image(meta, rescale, expected):
    found = postprocess(instances(), meta, {'clip': True}, rescale)
    assert found.bboxes[:2].tolist() == expected
    assert found.scores.tolist() == instances().scores.tolist()


def test_without_clip_boxes_can_leave_the_image():
    found = postprocess(instances(), {'img_shape': (50, 80)}, {})
    torch.testing.assert_close(found.bboxes, BOXES, rtol=0, atol=0)


def test_clip_is_applied_after_nms():
    """Two boxes with the same part inside the image are both kept."""
    boxes = torch.tensor([[-90.0, 0, 10, 10], [0.0, 0, 10, 10]])
    both = InstanceData(bboxes=boxes, scores=torch.tensor([0.9, 0.8]), labels=torch.zeros(2).long())
    cfg = {'clip': True, 'nms': {'type': 'nms', 'iou_threshold': 0.5}}
    found = postprocess(both, {'img_shape': (20, 20)}, cfg)
    assert found.bboxes.tolist() == [[0, 0, 10, 10]] * 2


@pytest.mark.parametrize(('rescale', 'missing'), [(False, 'img_shape'), (True, 'ori_shape')])
def test_a_missing_size_is_named(rescale, missing):
    with pytest.raises(KeyError, match=f'{missing} is missing .* remove clip'):
        postprocess(instances(), {'scale_factor': (1.0, 1.0)}, {'clip': True}, rescale)


def test_class_agnostic_nms_of_darknet_compares_boxes_of_all_classes():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 9]])
    both = InstanceData(bboxes=boxes, scores=torch.tensor([0.9, 0.8]), labels=torch.arange(2))
    nms = {'type': 'darknet_nms', 'iou_threshold': 0.5}
    assert len(postprocess(both, {}, {'nms': nms})) == 2
    found = postprocess(both, {}, {'nms': {**nms, 'class_agnostic': True}})
    assert found.labels.tolist() == [0]


@pytest.mark.parametrize(
    ('nms', 'message'),
    [
        ({'type': 'nmss', 'iou_threshold': 0.5}, "type of nms='nmss' is unknown; choose 'nms', "),
        ({'iou_threshold': 0.5}, 'type of nms=None is unknown'),
        ({'type': 'nms', 'iou_thr': 0.5}, "nms has no option 'iou_thr'; it takes iou_threshold, "),
        ({'type': 'darknet_nms', 'sigma': 1}, "darknet_nms has no option 'sigma'; it takes "),
        ({'type': 'official_soft_nms', 'beta': 1}, "has no option 'beta'; it takes sigma, "),
    ],
)
def test_a_wrong_nms_is_an_error_when_the_head_is_built(nms, message):
    with pytest.raises(ValueError, match=message):
        check_nms({'nms': nms})
    check_nms({'nms': None})
    check_nms({})


def test_a_negative_limit_keeps_all_boxes():
    for limit, count in ((-1, 3), (2, 2), (0, 0)):
        assert len(postprocess(instances(), {}, {'max_per_img': limit})) == count


def test_adaptive_nms_is_a_kind_of_nms():
    crowd = instances()
    crowd.bboxes = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 8], [0.0, 0, 10, 6.5]])
    crowd.labels = torch.zeros(3, dtype=torch.long)
    for eta, count in ((1.0, 2), (0.5, 1)):
        config = {'nms': {'type': 'adaptive_nms', 'iou_threshold': 0.79, 'eta': eta}}
        assert len(postprocess(crowd, {}, config)) == count


def test_vote_averages_the_boxes_that_nms_compares():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 8], [30.0, 0, 40, 10]])
    found = InstanceData(bboxes=boxes, scores=torch.tensor([0.6, 0.6, 0.3]), labels=torch.ones(3))
    nms = {'type': 'darknet_nms', 'iou_threshold': 0.5}
    check_nms({'nms': nms | {'vote': 0.6}})
    plain = postprocess(found, {}, {'nms': nms})
    voted = postprocess(found, {}, {'nms': nms | {'vote': 0.6}})
    assert plain.bboxes.tolist() == boxes[[0, 2]].tolist()
    assert voted.scores.equal(plain.scores)
    torch.testing.assert_close(voted.bboxes, torch.tensor([[0.0, 0, 10, 9], [30, 0, 40, 10]]))
    alone = postprocess(found, {}, {'nms': nms | {'vote': 0.9}})
    torch.testing.assert_close(alone.bboxes, plain.bboxes)


def test_nms_of_many_boxes_keeps_the_same_ones_per_class_and_in_one_call(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(300, 2, generator=generator) * 60
    boxes = torch.cat((low, low + 10 + 20 * torch.rand(300, 2, generator=generator)), 1)
    labels = torch.randint(3, (300,), generator=generator)
    scores = torch.rand(300, generator=generator)
    cfg = dict(score_thr=0.1, nms=dict(type='nms', iou_threshold=0.5))
    results = []
    for limit in (1, 1000):
        monkeypatch.setitem(postprocess.__globals__, 'PER_CLASS', limit)
        found = InstanceData(bboxes=boxes, scores=scores, labels=labels)
        results.append(postprocess(found, {}, cfg))
    assert 0 < len(results[0]) < 250
    for name in ('bboxes', 'scores', 'labels'):
        assert torch.equal(results[0][name], results[1][name])
