"""AP per class: equal to darknet's loop, and to MMDetection's VOCMetric where both agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmdet_losses.metrics import ClassAPMetric

CLASSES = ('cat', 'dog', 'bird')


def overlap(box, other):
    low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
    inner = np.prod(np.clip(high - low, 0, None))
    return inner / (np.prod(box[2:] - box[:2]) + np.prod(other[2:] - other[:2]) - inner)


def slow_ap(images, label, threshold):
    """darknet's loops: the matches of all images by score, the area from the last match back."""
    found, total = [], 0
    for number, (gt_boxes, gt_labels, boxes, labels, scores) in enumerate(images):
        total += int((gt_labels == label).sum())
        for box, kind, score in zip(boxes, labels, scores, strict=True):
            if kind == label:
                overlaps = [
                    overlap(box, other) if same == label else 0.0
                    for other, same in zip(gt_boxes, gt_labels, strict=True)
                ]
                best = int(np.argmax(overlaps)) if overlaps else -1
                hit = best >= 0 and overlaps[best] > threshold
                found.append((score, (number, best) if hit else None))
    taken, points, right = set(), [], 0
    for count, (_, match) in enumerate(sorted(found, key=lambda each: -each[0]), 1):
        if match is not None and match not in taken:
            taken.add(match)
            right += 1
        points.append((right / total, right / count))
    area, best, recall = 0.0, 0.0, points[-1][0]
    for earlier, precision in reversed(points):
        best = max(best, precision)
        area, recall = area + (recall - earlier) * best, earlier
    return area + recall * best


def image(rng):
    """Three to six objects; predictions near them, some doubled and some anywhere."""
    count = rng.integers(3, 7)
    corner = rng.uniform(0, 60, (count, 2))
    gt_boxes = np.concatenate((corner, corner + rng.uniform(10, 40, (count, 2))), 1)
    gt_labels = rng.integers(0, 2, count)  # no bird has an object
    boxes = np.concatenate((gt_boxes, gt_boxes[:2], rng.uniform(0, 50, (3, 4))))
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 5)
    boxes += rng.normal(0, 3, boxes.shape)
    labels = np.concatenate((gt_labels, gt_labels[:2], [0, 1, 2]))
    return gt_boxes, gt_labels, boxes, labels, rng.permutation(len(boxes)) / len(boxes)


def sample(gt_boxes, gt_labels, boxes, labels, scores):
    def tensor(values, *shape):
        return torch.tensor(np.asarray(values, np.float64)).reshape(-1, *shape)

    return dict(
        gt_instances=dict(bboxes=tensor(gt_boxes, 4), labels=tensor(gt_labels).long()),
        ignored_instances=dict(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long()),
        pred_instances=dict(
            bboxes=tensor(boxes, 4), labels=tensor(labels).long(), scores=tensor(scores)
        ),
    )


@pytest.mark.parametrize('threshold', [0.5, 0.75])
def test_the_mean_of_the_classes_with_objects_equals_darknets_loop(threshold):
    rng = np.random.default_rng(1)
    images = [image(rng) for _ in range(4)]
    metric = ClassAPMetric(iou_thrs=threshold)
    metric.dataset_meta = dict(classes=CLASSES)
    metric.process({}, [sample(*each) for each in images])
    values = metric.evaluate(4)
    want = np.mean([slow_ap(images, label, threshold) for label in (0, 1)])
    assert 0.1 < want < 0.9
    assert values[f'voc/AP{round(100 * threshold)}'] == pytest.approx(want, abs=1e-6)
    assert values['voc/mAP'] == values[f'voc/AP{round(100 * threshold)}']


def test_perfect_predictions_have_an_ap_of_one():
    rng = np.random.default_rng(0)
    gt_boxes, gt_labels, *_ = image(rng)
    metric = ClassAPMetric(iou_thrs=[0.5, 0.75])
    metric.dataset_meta = dict(classes=CLASSES)
    scores = np.linspace(0.9, 0.5, len(gt_boxes))
    metric.process({}, [sample(gt_boxes, gt_labels, gt_boxes, gt_labels, scores)])
    assert metric.evaluate(1) == {'voc/mAP': 1.0, 'voc/AP50': 1.0, 'voc/AP75': 1.0}
