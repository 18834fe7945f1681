"""Greedy NMS against a plain loop."""

from __future__ import annotations

import pytest
import torch
from mmcv.ops import batched_nms

from mmdet_losses.ops import nms, pairwise_iou
from mmdet_losses.ops.nms import adaptive_nms, average_overlapping, greedy_nms, voted_boxes


def crowd(boxes: int, seed: int = 0, classes: int = 3, side: float = 60.0):
    """Boxes that overlap a lot, with equal scores among them."""
    generator = torch.Generator().manual_seed(seed)
    corner, size = torch.rand(2, boxes, 2, generator=generator) * side
    scores = (torch.rand(boxes, generator=generator) * 50).round() / 50
    labels = torch.randint(classes, (boxes,), generator=generator)
    return torch.cat((corner, corner + size), 1), scores, labels


def overlap(one, other, beta):
    iou = pairwise_iou(one[None], other[None])[0, 0]
    if beta is None:
        return iou
    distance = sum(((one[i] + one[i + 2] - other[i] - other[i + 2]) / 2) ** 2 for i in (0, 1))
    low, high = torch.minimum(one, other), torch.maximum(one, other)
    diagonal = (high[2] - low[0]) ** 2 + (high[3] - low[1]) ** 2
    return iou - (distance / diagonal) ** beta if diagonal > 0 else iou


def plain(boxes, scores, labels, threshold, beta=None):
    kept: list[int] = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        same = [k for k in kept if labels[k] == labels[i]]
        if all(overlap(boxes[k], boxes[i], beta) <= threshold for k in same):
            kept.append(i)
    return kept


@pytest.mark.parametrize('block', [1, 7, 1024])
@pytest.mark.parametrize('beta', [None, 0.6, 1.0])
@pytest.mark.parametrize('threshold', [0.1, 0.45])
def test_equals_a_loop_over_boxes(monkeypatch, block, beta, threshold):
    monkeypatch.setattr(nms, 'BLOCK', block)
    given = crowd(60)
    options = {} if beta is None else dict(kind='diou', beta=beta)
    kept = greedy_nms(*given, threshold, **options).tolist()
    assert kept == plain(*given, threshold, beta)
    assert len(kept) < 60


def test_equals_mmcv_for_more_boxes_than_one_block():
    boxes, _, labels = crowd(5000, side=300)
    scores = torch.rand(5000, generator=torch.Generator().manual_seed(1))
    config = dict(type='nms', iou_threshold=0.5, split_thr=10_000)
    _, kept = batched_nms(boxes, scores, labels, config)
    assert len(kept) > nms.BLOCK
    assert greedy_nms(boxes, scores, labels, 0.5).tolist() == kept.tolist()


def test_a_chain_of_overlaps_keeps_every_second_box():
    """Each kept box drops the next one."""
    left = torch.arange(9.0)
    boxes = torch.stack((left, left * 0, left + 2.5, left * 0 + 1), 1)
    kept = greedy_nms(boxes, 1 - left / 10, torch.zeros(9), 0.4)
    assert kept.tolist() == [0, 2, 4, 6, 8]


def test_no_boxes():
    assert greedy_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), 0.5).tolist() == []
    with pytest.raises(ValueError, match="choose 'iou' or 'diou'"):
        greedy_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), 0.5, kind='giou')


@pytest.mark.parametrize('eta', [1.0, 0.9, 0.6])
def test_adaptive_nms_equals_a_slow_loop(eta):
    boxes, scores, labels = crowd(150, classes=2)
    scores = torch.rand(150, generator=torch.Generator().manual_seed(4))
    want = []
    for label in (0, 1):
        threshold, kept = 0.6, []
        for box in sorted((labels == label).nonzero().flatten().tolist(), key=lambda i: -scores[i]):
            if all(pairwise_iou(boxes[[box]], boxes[[one]]) <= threshold for one in kept):
                kept.append(box)
                if eta < 1 and threshold > 0.5:
                    threshold *= eta
        want += kept
    have = adaptive_nms(boxes, scores, labels, 0.6, eta)
    assert sorted(have.tolist()) == sorted(want) and len(want) < 150
    assert (scores[have].diff() <= 0).all()
    if eta == 1:
        assert torch.equal(have, greedy_nms(boxes, scores, labels, 0.6))
    with pytest.raises(ValueError, match='eta=0 is outside'):
        adaptive_nms(boxes, scores, labels, 0.6, 0)


@pytest.mark.parametrize('threshold', [0.3, 0.6])
def test_averages_equal_a_slow_loop(threshold):
    boxes, scores, labels = crowd(120)
    scores[::10] = 0  # boxes without weight
    groups: dict[int, list[int]] = {k: [] for k in plain(boxes, scores, labels, threshold)}
    for i in range(len(boxes)):
        same = [k for k in groups if labels[k] == labels[i]]
        groups[
            i if i in groups
            else next(k for k in same if overlap(boxes[k], boxes[i], None) > threshold)
        ].append(i)  # fmt: skip
    found = average_overlapping(boxes, scores, labels, threshold, views=4)
    for box, score, label, (best, group) in zip(*found, groups.items(), strict=True):
        total = scores[group].sum()
        mean = (boxes[group] * scores[group, None]).sum(0) / total if total > 0 else boxes[best]
        torch.testing.assert_close(box, mean)
        torch.testing.assert_close(score, (total / 4).clamp_max(1))
        assert label == labels[best]
    assert max(map(len, groups.values())) > 1


def test_averages_of_no_boxes_and_of_boxes_without_an_area():
    empty = torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long)
    assert [len(each) for each in average_overlapping(*empty, 0.5, 2)] == [0, 0, 0]
    points = torch.tensor([[5.0, 5, 5, 5], [7, 7, 7, 7]])
    boxes, scores, _ = average_overlapping(points, torch.tensor([0.4, 0.8]), torch.zeros(2), 0.5, 2)
    assert boxes.tolist() == points.flip(0).tolist() and scores.tolist() == pytest.approx(
        [0.4, 0.2]
    )


def test_a_kept_box_is_the_average_of_the_boxes_of_its_class_that_overlap_it():
    boxes, scores, labels = crowd(60)
    kept = greedy_nms(boxes, scores, labels, 0.45)
    voted = voted_boxes(boxes, scores, labels, kept, 0.3)
    for index, box in zip(kept.tolist(), voted, strict=True):
        overlaps = pairwise_iou(boxes[[index]], boxes)[0]
        votes = [i for i in range(60) if labels[i] == labels[index] and overlaps[i] > 0.3]
        mean = sum(scores[i] * boxes[i] for i in votes) / sum(scores[i] for i in votes)
        torch.testing.assert_close(box, mean)
    assert (voted - boxes[kept]).abs().max() > 1


def test_votes_for_no_boxes_and_for_a_box_without_an_area():
    empty = torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), torch.zeros(0, dtype=torch.long)
    assert voted_boxes(*empty, 0.5).shape == (0, 4)
    point = torch.tensor([[5.0, 5, 5, 5]])
    assert voted_boxes(point, torch.ones(1), torch.zeros(1), torch.tensor([0]), 0.5).equal(point)
