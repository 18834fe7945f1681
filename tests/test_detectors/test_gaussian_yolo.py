"""Gaussian YOLOv3 against a slow loop that follows darknet's layer."""

import math

import pytest
import torch
from mmengine.structures import InstanceData

from mmdet_losses.detectors.yolo import GaussianYOLOLoss, GaussianYOLOTargetEncoder
from mmdet_losses.detectors.yolo.predictors import gaussian_outputs
from mmdet_losses.ops import darknet_iou_direction
from tests.test_detectors.test_yolo_losses import ANCHORS, BOXES, LABELS, SIZE, H, W, objects
from tests.test_detectors.test_yolo_losses import overlap as iou_of

SHIFT = {'center': 0.0, 'left_top': -0.5, 'right_bottom': 0.5}
COMMON = {'num_classes': 3, 'anchors': ANCHORS}


@pytest.fixture(name='gt_instances')
def _gt_instances():
    return [
        InstanceData(bboxes=BOXES, labels=LABELS),
        InstanceData(bboxes=BOXES[:0], labels=LABELS[:0]),
    ]


def raw_map(seed=0):
    """Channels of an anchor in darknet's order: x, its sigma, ..., objectness, classes."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 2 * 12, H, W, generator=generator, dtype=torch.float64)


def box_of(t, a, i, j, shift):
    """Decoded cxcywh of an anchor."""
    w, h = (math.exp(t[k]) * ANCHORS[0][a][n] / SIZE[1 - n] for n, k in enumerate((4, 6)))
    x, y = (j + t[0].sigmoid().item()) / W, (i + t[2].sigmoid().item()) / H
    return [x - shift * w, y - shift * h, w, h]


def likelihood_delta(goal, t, k):
    """Deltas of the mean ``k`` and of its sigma: half the slope of -log(density + 1e-9)."""
    mean = t[k].sigmoid().item() if k < 4 else t[k].item()
    sigma = t[k + 1].sigmoid().item()
    z = (goal - mean) / sigma
    density = math.exp(-z * z / 2) / (math.sqrt(2 * math.pi) * (sigma + 0.3))
    factor = density / (density + 1e-9) / 2
    return factor * z / sigma, factor * (z * z / sigma - 1 / (sigma + 0.3))


def slow_delta(x, gt_instances, code, box, threshold, point, uc, bound, iou_threshold):
    """darknet's [Gaussian_yolo] layer, one prediction at a time; returns its delta."""
    delta, alexeyab, shift = torch.zeros_like(x), code == 'alexeyab', SHIFT[point]
    for raw, rows, out in zip(x, objects(gt_instances), delta, strict=True):

        def train(n, a, i, j, raw=raw, rows=rows, out=out):
            (cx, cy, w, h), label = rows[n]
            t, d = raw[12 * a : 12 * a + 12, i, j], out[12 * a : 12 * a + 12, i, j]
            goals = [(cx + shift * w) * W - j, (cy + shift * h) * H - i]
            goals += [
                math.log(side * SIZE[1 - n] / ANCHORS[0][a][n]) for n, side in enumerate((w, h))
            ]
            pairs = [likelihood_delta(goal, t, 2 * k) for k, goal in enumerate(goals)]
            scale, normalizer = 2 - w * h, 0.75 if alexeyab else 1
            means = [normalizer * scale * pair[0] for pair in pairs]
            if box != 'mse':
                pred = torch.tensor(box_of(t, a, i, j, shift), dtype=torch.float64)
                goal = torch.tensor(rows[n][0], dtype=torch.float64)
                dx, dy, dw, dh = darknet_iou_direction(pred, goal, box).tolist()
                means = [dx + shift * dw, dy + shift * dh, dw * t[4].exp(), dh * t[6].exp()]
                means = [normalizer * each for each in means]
            sigmas = [uc * scale * pair[1] for pair in pairs]
            for k, values in enumerate(zip(means, sigmas, strict=True)):
                for channel, value in zip((2 * k, 2 * k + 1), values, strict=True):
                    value = min(max(value, -bound), bound)
                    d[channel] = d[channel] + value if alexeyab else value
            d[8] = 1 - t[8].sigmoid()
            if d[9] == 0:
                d[9:] = -t[9:].sigmoid()
            d[9 + label] = 1 - t[9 + label].sigmoid()

        cells = [(a, i, j) for a in range(2) for i in range(H) for j in range(W)]
        for a, i, j in cells:
            t, d = raw[12 * a : 12 * a + 12, i, j], out[12 * a : 12 * a + 12, i, j]
            pred = box_of(t, a, i, j, shift)
            overlaps = [iou_of(pred, each) for each, _ in rows]
            best = max(overlaps, default=0)
            gate = not alexeyab or t[9:].sigmoid().max() > 0.25
            d[8] = 0 if best > 0.5 and gate else -t[8].sigmoid()
            if best > threshold:
                train(overlaps.index(best), a, i, j)
        for n, ((cx, cy, w, h), _) in enumerate(rows):
            shapes = [iou_of((0, 0, w, h), (0, 0, u / SIZE[1], v / SIZE[0])) for u, v in ANCHORS[0]]
            i = min(max(int((cy + shift * h) * H), 0), H - 1)
            j = min(max(int((cx + shift * w) * W), 0), W - 1)
            best = shapes.index(max(shapes))
            for a in sorted(range(2), key=lambda a: a != best):
                if a == best or shapes[a] > iou_threshold:
                    train(n, a, i, j)
        for a, i, j in cells:
            d = out[12 * a : 12 * a + 12, i, j]
            if alexeyab:
                d[:8] /= max(1, int((d[9:] > 0).sum()))
    return delta


@pytest.mark.parametrize(
    ('code', 'box', 'point', 'threshold', 'iou_threshold'),
    [
        ('redmon', 'mse', 'center', 1.0, 1.0),
        ('redmon', 'mse', 'center', 0.4, 1.0),
        ('alexeyab', 'mse', 'center', 1.0, 0.213),
        ('alexeyab', 'mse', 'left_top', 0.4, 1.0),
        ('alexeyab', 'giou', 'right_bottom', 1.0, 0.213),
    ],
)
def test_the_gradient_is_darknets_delta(gt_instances, code, box, point, threshold, iou_threshold):
    x = raw_map().requires_grad_()
    encoder = GaussianYOLOTargetEncoder(
        **COMMON, point=point, code=code, iou_threshold=iou_threshold
    )
    targets = encoder.encode(gt_instances, [(H, W)], SIZE)
    options = dict(truth_threshold=threshold, uc_normalizer=0.5, max_delta=2.0)
    losses = GaussianYOLOLoss(box, code, **options)(gaussian_outputs([x], 3), targets)
    sum(losses.values()).backward()
    want = slow_delta(
        x.detach(), gt_instances, code, box, threshold, point, 0.5, 2.0, iou_threshold
    )
    torch.testing.assert_close(-x.grad, want, rtol=1e-5, atol=1e-6)
    sigma = want.unflatten(1, (2, 12))[:, :, 1:8:2]
    assert (sigma != 0).any() and sigma.abs().max() <= 2


def test_the_value_of_the_box_terms_is_the_likelihood(gt_instances):
    x = raw_map()
    targets = GaussianYOLOTargetEncoder(**COMMON, code='redmon').encode(
        gt_instances, [(H, W)], SIZE
    )
    losses = GaussianYOLOLoss('mse', 'redmon', uc_normalizer=0.5)(gaussian_outputs([x], 3), targets)
    total = 0.0
    last = {}  # the last object of an anchor sets its box
    for (cx, cy, w, h), _ in objects(gt_instances)[0]:
        shapes = [iou_of((0, 0, w, h), (0, 0, u / SIZE[1], v / SIZE[0])) for u, v in ANCHORS[0]]
        last[shapes.index(max(shapes)), int(cy * H), int(cx * W)] = (cx, cy, w, h)
    for (a, i, j), (cx, cy, w, h) in last.items():
        t = x[0, 12 * a : 12 * a + 12, i, j]
        sizes = (side * SIZE[1 - n] / ANCHORS[0][a][n] for n, side in enumerate((w, h)))
        goals = [cx * W - j, cy * H - i, *map(math.log, sizes)]
        for k, goal in enumerate(goals):
            mean, sigma = t[2 * k], t[2 * k + 1].sigmoid()
            z = (goal - (mean.sigmoid() if k < 2 else mean)) / sigma
            density = (-z * z / 2).exp() / (math.sqrt(2 * math.pi) * (sigma + 0.3))
            total += (2 - w * h) / 2 * -(density + 1e-9).log()
    torch.testing.assert_close(losses['loss_box'], total, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(losses['loss_sigma'], total / 2, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('point', SHIFT)
def test_boxes_and_scores_equal_a_slow_loop(gt_instances, point):
    x = raw_map(1)[:1]
    encoder = GaussianYOLOTargetEncoder(**COMMON, point=point, score_thr=0.0, topk=None)
    (found,) = encoder.decode(gaussian_outputs([x], 3), SIZE)
    want = {}
    for a in range(2):
        for i in range(H):
            for j in range(W):
                t = x[0, 12 * a : 12 * a + 12, i, j]
                certainty = 1 - t[1:8:2].sigmoid().mean()
                for label in range(3):
                    score = t[8].sigmoid() * t[9 + label].sigmoid() * certainty
                    want[float(score)] = (label, box_of(t, a, i, j, SHIFT[point]))
    scores = sorted(want, reverse=True)
    assert len(scores) == 2 * H * W * 3
    torch.testing.assert_close(found.scores, torch.tensor(scores, dtype=torch.float64))
    assert found.labels.tolist() == [want[score][0] for score in scores]
    boxes = torch.tensor([want[score][1] for score in scores], dtype=torch.float64)
    corners = torch.cat((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), 1)
    pixels = torch.tensor(SIZE[::-1] * 2, dtype=torch.float64)
    torch.testing.assert_close(found.bboxes, corners * pixels, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('point', SHIFT)
def test_every_point_has_a_round_trip(point):
    boxes = torch.tensor(
        [[10.0, 9.0, 58.5, 50.25], [70.0, 20.0, 160.0, 96.0], [0.0, 0.0, 9.0, 12.0]]
    )
    encoder = GaussianYOLOTargetEncoder(**COMMON, point=point)
    gt = InstanceData(bboxes=boxes, labels=torch.tensor([2, 0, 1]))
    targets = encoder.encode([gt], [(H, W)], SIZE)
    (found,) = encoder.decode(encoder.ideal_outputs(targets), SIZE)
    found = found[found.scores > 0.5]
    assert sorted(found.labels.tolist()) == [0, 1, 2]
    for box, label in zip(boxes, gt.labels, strict=True):
        torch.testing.assert_close(found.bboxes[found.labels == label][0], box, rtol=0, atol=1e-3)


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
def test_the_deltas_of_a_cell_with_many_objects_are_bounded(dtype):
    count = 40  # each object alone has deltas of about 7e3
    center = torch.tensor([2.5001 * SIZE[1] / W, 1.5001 * SIZE[0] / H])  # raw values of 0, nearly
    half = torch.tensor(ANCHORS[0][0]) / 2
    boxes = torch.cat((center - half, center + half)).repeat(count, 1)
    crowd = InstanceData(bboxes=boxes, labels=LABELS[:1].repeat(count))
    targets = GaussianYOLOTargetEncoder(**COMMON).encode([crowd], [(H, W)], SIZE)
    x = torch.zeros(1, 24, H, W, dtype=dtype)
    x.unflatten(1, (2, 12))[:, :, 1:8:2] = -9  # standard deviations of 1e-4
    x.requires_grad_()
    sum(GaussianYOLOLoss()(gaussian_outputs([x], 3), targets).values()).backward()
    box = x.grad.unflatten(1, (2, 12))[:, :, :8]
    assert box.isfinite().all() and box.abs().max() == 1e4


def test_options_of_other_layers_raise():
    with pytest.raises(ValueError, match='GaussianYOLOLoss has no option focal; remove it'):
        GaussianYOLOLoss(focal=True)
    with pytest.raises(ValueError, match=r'squared=True does not exist in \[Gaussian_yolo\]'):
        GaussianYOLOTargetEncoder(3, squared=True)
    with pytest.raises(ValueError, match="point='corner' is unknown"):
        GaussianYOLOTargetEncoder(3, point='corner')
