"""YOLO criteria against slow loops, and what their options change."""

import math

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData

from mmdet_losses.detectors.yolo import (
    ScaledYOLOV4Loss,
    ScaledYOLOV4Outputs,
    ScaledYOLOV4TargetEncoder,
    YOLOV2Loss,
    YOLOV2Outputs,
    YOLOV2TargetEncoder,
    YOLOV3Loss,
    YOLOV3Outputs,
    YOLOV3TargetEncoder,
    YOLOV4Loss,
    YOLOV4Outputs,
    YOLOV4TargetEncoder,
    joined,
)
from mmdet_losses.ops import best_match, best_overlap, box_similarity, iou

SIZE = (96, 160)
H, W = 6, 8
ANCHORS = [[(24.0, 40.0), (60.0, 30.0)]]
BOXES = torch.tensor(
    [
        [10.0, 9.0, 58.5, 50.25],
        [70.0, 20.0, 139.0, 86.5],
        [20.5, 60.0, 44.0, 88.0],
        [11.0, 8.0, 59.0, 51.0],
    ]
)
LABELS = torch.tensor([2, 0, 1, 1])


def three_images():
    """Ground truth of an image with four objects, without one, and with two."""
    kept = (slice(None), slice(0), slice(1, 3))
    return [InstanceData(bboxes=BOXES[part], labels=LABELS[part]) for part in kept]


@pytest.fixture(name='gt_instances')
def _gt_instances():
    return three_images()


def raw_map(seed=0, batch=3):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(batch, 2 * 8, H, W, generator=generator, dtype=torch.float64)
    return noise.requires_grad_()


def overlap(first, second):
    """IoU of two cxcywh boxes, as floats."""
    sides = [
        max(
            0.0,
            min(first[i] + first[i + 2] / 2, second[i] + second[i + 2] / 2)
            - max(first[i] - first[i + 2] / 2, second[i] - second[i + 2] / 2),
        )
        for i in (0, 1)
    ]
    inter = sides[0] * sides[1]
    return inter / (first[2] * first[3] + second[2] * second[3] - inter)


def objects(gt_instances):
    """(cx, cy, w, h) fractions and label of every object, image by image."""
    found = []
    for each in gt_instances:
        rows = []
        for (x1, y1, x2, y2), label in zip(each.bboxes.tolist(), each.labels.tolist(), strict=True):
            box = ((x1 + x2) / 2 / 160, (y1 + y2) / 2 / 96, (x2 - x1) / 160, (y2 - y1) / 96)
            rows.append((box, label))
        found.append(rows)
    return found


def claims(rows, threshold):
    """(object, anchor, row, column) of an image: the best anchor by shape, and those above."""
    found = []
    for number, (box, _) in enumerate(rows):
        shapes = [overlap((0, 0, *box[2:]), (0, 0, w / 160, h / 96)) for w, h in ANCHORS[0]]
        for anchor, value in enumerate(shapes):
            if value == max(shapes) or value > threshold:
                found.append((number, anchor, int(box[1] * H), int(box[0] * W)))
    return found


def decoded(raw, a, i, j, scale=1.0):
    """Box of an anchor as four tensors."""
    t = raw[8 * a : 8 * a + 8, i, j]
    at = t[:2].sigmoid() * scale - (scale - 1) / 2
    w, h = ANCHORS[0][a]
    return torch.stack(
        ((j + at[0]) / W, (i + at[1]) / H, t[2].exp() * w / 160, t[3].exp() * h / 96)
    )


def slow_summary(x, gt_instances, kind, scale, threshold):
    """The formulas of the loss summary, one prediction at a time."""
    total = 0
    for raw, rows in zip(x, objects(gt_instances), strict=True):
        owner = {(a, i, j): n for n, a, i, j in claims(rows, threshold)}
        for a in range(2):
            for i in range(H):
                for j in range(W):
                    t = raw[8 * a : 8 * a + 8, i, j]
                    box = decoded(raw, a, i, j, scale)
                    if (a, i, j) not in owner:
                        near = any(overlap(box.tolist(), each) >= 0.3 for each, _ in rows)
                        if kind == 'v2':
                            total = total + 0.5 * t[4].sigmoid() ** 2
                        elif not near:
                            total = total + 0.5 * F.softplus(t[4])
                        continue
                    goal, label = rows[owner[a, i, j]]
                    own = F.one_hot(torch.tensor(label), 3).double()
                    goal = torch.tensor(goal, dtype=torch.float64)
                    cells = torch.tensor([W, H], dtype=torch.float64)
                    off = box[:2] * cells - goal[:2] * cells
                    if kind == 'v2':
                        total = total + 5 * off.square().sum()
                        total = total + 5 * (box[2:].sqrt() - goal[2:].sqrt()).square().sum()
                        total = total + (1 - t[4].sigmoid()) ** 2
                        total = total + (t[5:].softmax(0) - own).square().sum()
                        continue
                    if kind == 'mse':
                        size = torch.tensor(ANCHORS[0][a], dtype=torch.float64)
                        size = size / torch.tensor([160.0, 96.0])
                        raw_goal = torch.log(goal[2:] / size)
                        total = total + 5 * off.square().mean()
                        total = total + 5 * (t[2:4] - raw_goal).square().mean()
                    else:
                        corners = [
                            torch.cat((b[:2] - b[2:] / 2, b[:2] + b[2:] / 2)) for b in (box, goal)
                        ]
                        total = total + 5 * (1 - box_similarity(*corners, 'ciou'))
                    total = total + F.softplus(-t[4])
                    total = total + F.binary_cross_entropy_with_logits(t[5:], own, reduction='sum')
    return total


@pytest.mark.parametrize(
    ('kind', 'encoder', 'criterion', 'outputs', 'scale', 'threshold'),
    [
        ('v2', YOLOV2TargetEncoder, YOLOV2Loss, YOLOV2Outputs, 1.0, 0.3),
        ('mse', YOLOV3TargetEncoder, YOLOV3Loss, YOLOV3Outputs, 1.0, 0.7),
        ('ciou', YOLOV4TargetEncoder, YOLOV4Loss, YOLOV4Outputs, 1.1, 0.7),
    ],
)
def test_summary_formulas_equal_a_slow_loop(
    gt_instances, kind, encoder, criterion, outputs, scale, threshold
):
    x = raw_map()
    encoder = encoder(3, ANCHORS, convention='summary')
    targets = encoder.encode(gt_instances, [(H, W)], SIZE)
    got = sum(criterion(convention='summary')(outputs((x,)), targets).values())
    want = slow_summary(x, gt_instances, kind, scale, threshold)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    grads = [torch.autograd.grad(each, x)[0] for each in (got, want)]
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-5)


def slow_v3(x, gt_instances, code, truth_threshold):
    """darknet's [yolo] layer with squares, one prediction at a time; returns its delta."""
    delta = torch.zeros_like(x)
    redmon = code == 'redmon'
    for raw, rows, out in zip(x, objects(gt_instances), delta, strict=True):
        seen = set()

        def train(n, a, i, j, raw=raw, rows=rows, out=out, seen=seen):
            (cx, cy, w, h), label = rows[n]
            t, d = raw[8 * a : 8 * a + 8, i, j], out[8 * a : 8 * a + 8, i, j]
            weight = (2 - w * h) * (1 if redmon else 0.75)
            box = [
                weight * (cx * W - j - t[0].sigmoid()),
                weight * (cy * H - i - t[1].sigmoid()),
                weight * (math.log(w * 160 / ANCHORS[0][a][0]) - t[2]),
                weight * (math.log(h * 96 / ANCHORS[0][a][1]) - t[3]),
            ]
            for k, value in enumerate(box):
                d[k] = value if redmon else d[k] + value
            d[4] = 1 - t[4].sigmoid()
            if (a, i, j) not in seen:
                d[5:] = -t[5:].sigmoid()
            d[5 + label] = 1 - t[5 + label].sigmoid()
            seen.add((a, i, j))

        for a in range(2):
            for i in range(H):
                for j in range(W):
                    t, d = raw[8 * a : 8 * a + 8, i, j], out[8 * a : 8 * a + 8, i, j]
                    box = decoded(raw, a, i, j).tolist()
                    overlaps = [overlap(box, each) for each, _ in rows]
                    best = max(overlaps, default=0)
                    gate = redmon or t[5:].sigmoid().max() > 0.25
                    d[4] = 0 if best > 0.7 and gate else -t[4].sigmoid()
                    if best > truth_threshold:
                        train(overlaps.index(best), a, i, j)
        for n, a, i, j in claims(rows, 1.0):
            train(n, a, i, j)
    return delta


@pytest.mark.parametrize('truth_threshold', [1.0, 0.3])
@pytest.mark.parametrize('code', ['redmon', 'alexeyab'])
def test_yolov3_delta_equals_a_slow_loop(gt_instances, code, truth_threshold):
    x = raw_map(1)
    targets = YOLOV3TargetEncoder(3, ANCHORS).encode(gt_instances, [(H, W)], SIZE)
    criterion = YOLOV3Loss(code=code, truth_threshold=truth_threshold)
    sum(criterion(YOLOV3Outputs((x,)), targets).values()).backward()
    want = slow_v3(x.detach(), gt_instances, code, truth_threshold)
    torch.testing.assert_close(-x.grad, want, rtol=1e-5, atol=1e-6)
    shared = targets.levels[0].positive[0, :, 0] & targets.levels[0].positive[0, :, 3]
    assert shared.any()  # two objects share an anchor of one cell: the case is not trivial


def test_squared_errors_of_squared_boxes_equal_a_slow_loop(gt_instances):
    """new_coords=1 with iou_loss=mse: the layer reads sigmoids, whose derivative follows."""
    x = raw_map(1)
    encoder = YOLOV3TargetEncoder(3, ANCHORS, scale_xy=2.0, squared=True, code='alexeyab')
    targets = encoder.encode(gt_instances, [(H, W)], SIZE)
    losses = YOLOV3Loss(code='alexeyab')(YOLOV3Outputs((x,)), targets)
    (losses['loss_xy'] + losses['loss_wh']).backward()
    want = torch.zeros_like(x)
    for raw, rows, out in zip(x.detach(), objects(gt_instances), want, strict=True):
        for n, a, i, j in claims(rows, 1.0):
            (cx, cy, w, h), _ = rows[n]
            score = raw[8 * a : 8 * a + 4, i, j].sigmoid()
            wide, high = ANCHORS[0][a]
            root = math.sqrt(w * 160 / wide) / 2, math.sqrt(h * 96 / high) / 2
            goals = torch.tensor([cx * W - j, cy * H - i, *root])
            value = torch.cat((2 * score[:2] - 0.5, score[2:]))
            delta = 0.75 * (2 - w * h) * (goals - value) * score * (1 - score)
            out[8 * a : 8 * a + 4, i, j] += delta
    torch.testing.assert_close(-x.grad, want, rtol=1e-5, atol=1e-6)
    assert (want != 0).any()


def test_a_prediction_above_the_truth_threshold_is_a_positive(gt_instances):
    x = raw_map(1)
    targets = YOLOV3TargetEncoder(3, ANCHORS).encode(gt_instances, [(H, W)], SIZE)
    moved = [
        torch.autograd.grad(
            YOLOV3Loss(truth_threshold=level)(YOLOV3Outputs((x,)), targets)['loss_wh'], x
        )[0]
        for level in (1.0, 0.3)
    ]
    few, more = ((each != 0).sum() for each in moved)
    assert few < more  # the slow loop above meets predictions of that kind


TWO_MAPS = [ANCHORS[0], [(10.0, 14.0), (30.0, 24.0)]]
TWO_SIZES = [(H, W), (2 * H, 2 * W)]


def two_maps():
    generator = torch.Generator().manual_seed(3)
    return [
        torch.randn(3, 16, *size, generator=generator, dtype=torch.float64).requires_grad_()
        for size in TWO_SIZES
    ]


@pytest.mark.parametrize('packed', [True, False])
@pytest.mark.parametrize('options', [{}, {'iou_normalizer': (0.07, 0.5), 'max_delta': (5, 0.01)}])
def test_joined_maps_equal_the_sum_of_single_maps(gt_instances, monkeypatch, options, packed):
    if not packed:  # the path of a GPU, which keeps empty slots
        monkeypatch.setattr(joined, '_packed', lambda slots: slots)
    maps = two_maps()
    encoder = YOLOV4TargetEncoder(3, TWO_MAPS, scale_xy=(1.2, 1.05), iou_threshold=0.3)
    targets = encoder.encode(gt_instances, TWO_SIZES, SIZE)
    assert all(level.positive.any() for level in targets.levels)
    got = YOLOV4Loss(**options)(YOLOV4Outputs(tuple(maps)), targets)
    want = dict.fromkeys(got, 0)
    for i, level in enumerate(targets.levels):
        criterion = YOLOV4Loss(**{name: value[i] for name, value in options.items()})
        single = criterion(YOLOV4Outputs((maps[i],)), targets._replace(levels=(level,)))
        want = {name: want[name] + value for name, value in single.items()}
    compare_losses(got, want, maps)


@pytest.mark.parametrize('packed', [True, False])
def test_joined_maps_of_scaled_yolov4_equal_the_sum_of_single_maps(
    gt_instances, monkeypatch, packed
):
    if not packed:
        monkeypatch.setattr(joined, '_packed', lambda slots: slots)
    maps, balance = two_maps(), (4.0, 0.4)
    targets = ScaledYOLOV4TargetEncoder(3, TWO_MAPS).encode(gt_instances, TWO_SIZES, SIZE)
    got = ScaledYOLOV4Loss(balance=balance)(ScaledYOLOV4Outputs(tuple(maps)), targets)
    want = dict.fromkeys(got, 0)
    for i, level in enumerate(targets.levels):
        criterion = ScaledYOLOV4Loss(balance=[balance[i]])
        single = criterion(ScaledYOLOV4Outputs((maps[i],)), targets._replace(levels=(level,)))
        want = {name: want[name] + value / 2 for name, value in single.items()}  # gains over L
    assert all(value > 0 for value in got.values())
    compare_losses(got, want, maps)


def compare_losses(got, want, maps):
    """Terms and gradients of two criteria."""
    for name, value in got.items():
        torch.testing.assert_close(value, want[name], rtol=1e-6, atol=1e-9)
    pairs = (torch.autograd.grad(sum(each.values()), maps) for each in (got, want))
    for have, expected in zip(*pairs, strict=True):
        torch.testing.assert_close(have, expected, rtol=1e-6, atol=1e-9)


def test_overlaps_do_not_depend_on_the_size_of_a_block(monkeypatch):
    generator = torch.Generator().manual_seed(5)
    center, size = torch.rand(2, 3, 2, 2, 7, generator=generator).unbind()[:2]
    boxes, mask = torch.rand(3, 4, 4, generator=generator), torch.ones(3, 4, dtype=torch.bool)
    mask[1:, 2:] = False
    want = best_overlap(center, size, boxes, mask)
    monkeypatch.setattr(iou, 'BLOCK', 60)  # two cells
    assert torch.equal(best_overlap(center, size, boxes, mask), want)
    assert torch.equal(best_match(center, size, boxes, mask)[0], want) and want.any()


def test_autograd_mode_is_the_true_gradient_and_darknets_is_not(gt_instances):
    x = raw_map(2)
    targets = YOLOV4TargetEncoder(3, ANCHORS, iou_threshold=1.0, scale_xy=1.1).encode(
        gt_instances, [(H, W)], SIZE
    )
    want = 0
    for raw, rows in zip(x, objects(gt_instances), strict=True):
        for n, a, i, j in claims(rows, 1.0):
            goal = torch.tensor(rows[n][0], dtype=torch.float64)
            pair = [
                torch.cat((b[:2] - b[2:] / 2, b[:2] + b[2:] / 2))
                for b in (decoded(raw, a, i, j, 1.1), goal)
            ]
            want = want + 0.07 * (1 - box_similarity(*pair, 'ciou'))
    grads = {}
    for gradient in ('autograd', 'darknet'):
        loss = YOLOV4Loss(gradient=gradient)(YOLOV4Outputs((x,)), targets)['loss_box']
        grads[gradient] = torch.autograd.grad(loss, x)[0]
        if gradient == 'autograd':
            torch.testing.assert_close(loss, want, rtol=1e-5, atol=1e-6)
    expected = torch.autograd.grad(want, x)[0]
    torch.testing.assert_close(grads['autograd'], expected, rtol=1e-4, atol=1e-7)
    assert (grads['darknet'] - expected).abs().max() > 0.01


def test_darknet_directions_are_finite_for_exploding_sizes(gt_instances):
    x = raw_map(3).detach().float()
    x[:, [2, 3, 10, 11]] = 200.0
    x.requires_grad_()
    targets = YOLOV4TargetEncoder(3, ANCHORS, scale_xy=1.1).encode(gt_instances, [(H, W)], SIZE)
    losses = YOLOV4Loss()(YOLOV4Outputs((x,)), targets)
    sum(losses.values()).backward()
    assert all(value.isfinite() for value in losses.values())
    assert x.grad.isfinite().all()


def test_normalizer_images_divides_by_the_batch_size(gt_instances):
    x = raw_map(4)
    targets = YOLOV3TargetEncoder(3, ANCHORS).encode(gt_instances, [(H, W)], SIZE)
    plain = YOLOV3Loss()(YOLOV3Outputs((x,)), targets)
    mean = YOLOV3Loss(normalizer='images')(YOLOV3Outputs((x,)), targets)
    for name, value in plain.items():
        torch.testing.assert_close(mean[name], value / 3)
