"""IoU losses: the formulas of the papers, finite everywhere."""

import math
from functools import partial

import pytest
import torch
from mmdet.models.losses.iou_loss import eiou_loss, giou_loss, siou_loss

from mmdet_losses.losses import BoxIoULoss, CompleteIoULoss, box_iou_loss
from mmdet_losses.ops import best_overlap, box_similarity, pairwise_iou, shape_iou
from mmdet_losses.ops.kernels import paired_similarity, similarity_reference

KERNELS = ('iou', 'giou', 'diou', 'ciou')
MODES = (*KERNELS, 'eiou', 'eiou_mmdet', 'siou', 'siou_mmdet')


def slow(p, t, mode):
    """Similarity of one pair, in plain arithmetic."""
    inter = max(0, min(p[2], t[2]) - max(p[0], t[0])) * max(0, min(p[3], t[3]) - max(p[1], t[1]))
    w, h, wg, hg = p[2] - p[0], p[3] - p[1], t[2] - t[0], t[3] - t[1]
    union = w * h + wg * hg - inter
    iou = inter / union
    cw, ch = max(p[2], t[2]) - min(p[0], t[0]), max(p[3], t[3]) - min(p[1], t[1])
    if mode == 'iou':
        return iou
    if mode == 'giou':
        return iou - (cw * ch - union) / (cw * ch)
    dx, dy = (p[0] + p[2] - t[0] - t[2]) / 2, (p[1] + p[3] - t[1] - t[3]) / 2
    diou = iou - (dx * dx + dy * dy) / (cw * cw + ch * ch)
    if mode == 'diou':
        return diou
    if mode == 'eiou':
        return diou - (w - wg) ** 2 / cw**2 - (h - hg) ** 2 / ch**2
    if mode.startswith('siou'):
        angle = 1 - 2 * math.sin(math.asin(abs(dy) / math.hypot(dx, dy)) - math.pi / 4) ** 2
        gamma = (2 - angle) * (-1 if mode == 'siou' else 1)
        distance = sum(1 - math.exp(gamma * each**2) for each in (dx / cw, dy / ch))
        omega = abs(w - wg) / max(w, wg), abs(h - hg) / max(h, hg)
        shape = sum((1 - math.exp(-each)) ** 4 for each in omega)
        result = iou - (distance + shape) / 2
        return result if mode == 'siou' else min(max(result, -1), 1)
    v = 4 / math.pi**2 * (math.atan(wg / hg) - math.atan(w / h)) ** 2
    return diou - v * v / (1 - iou + v)


def random_boxes(count, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    low = 60 * torch.rand(count, 2, dtype=dtype, generator=generator)
    return torch.cat(
        (low, low + 1 + 40 * torch.rand(count, 2, dtype=dtype, generator=generator)), 1
    )


FORMULAS = [mode for mode in MODES if mode != 'eiou_mmdet']  # compared with MMDetection's below


@pytest.mark.parametrize('mode', FORMULAS)
def test_equals_the_formula(mode):
    pred, target = random_boxes(60, 1), random_boxes(60, 2)
    pairs = zip(pred.tolist(), target.tolist(), strict=True)
    want = torch.tensor([slow(p, t, mode) for p, t in pairs], dtype=torch.float64)
    assert (want < 0).any() or mode in ('iou', 'siou_mmdet')
    torch.testing.assert_close(box_similarity(pred, target, mode), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('aspect_factor', [False, True])
@pytest.mark.parametrize('mode', KERNELS)
def test_kernel_equals_the_reference(mode, aspect_factor):
    """Values and gradients by both boxes, for random pairs and edge cases."""
    edges = torch.tensor([list(pair) for pair in EDGES.values()], dtype=torch.float64)
    pairs = torch.cat((torch.stack((random_boxes(40, 13), random_boxes(40, 14)), 1), edges))
    grads = []
    for function in (paired_similarity, similarity_reference):
        pred, target = (pairs[:, i].clone().requires_grad_() for i in (0, 1))
        value = function(pred, target, mode, aspect_factor)
        weight = torch.arange(len(pairs), dtype=torch.float64)
        grads.append((value.detach(), *torch.autograd.grad((weight * value).sum(), (pred, target))))
    for have, want in zip(*grads, strict=True):
        torch.testing.assert_close(have, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ('mode', 'theirs'),
    [
        ('eiou_mmdet', eiou_loss),
        ('siou', partial(siou_loss, neg_gamma=True)),
        ('siou_mmdet', siou_loss),
    ],
)
def test_modes_of_mmdetection_equal_its_losses(mode, theirs):
    """Values and gradients, for boxes that overlap, lie apart or are almost equal."""
    target = random_boxes(60, 2)
    pred = torch.cat((random_boxes(40, 1), target[40:] + 0.3 * random_boxes(20, 3) / 60))
    results = []
    for function in (partial(box_iou_loss, mode=mode), partial(theirs, eps=1e-12)):
        leaf = pred.clone().requires_grad_()
        loss = function(leaf, target, reduction='none')
        results.append((loss.detach(), torch.autograd.grad(loss.sum(), leaf)[0]))
    for have, want in zip(*results, strict=True):
        torch.testing.assert_close(have, want, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize('mode', KERNELS)
def test_the_exponent_raises_the_iou_and_each_penalty(mode):
    pred, target = random_boxes(40, 1), random_boxes(40, 2)
    iou, kind = box_similarity(pred, target), box_similarity(pred, target, mode)
    parts = [iou - kind]
    if mode == 'ciou':
        diou = box_similarity(pred, target, 'diou')
        parts = [iou - diou, diou - kind]
    want = iou**3 - sum(part**3 for part in parts)
    torch.testing.assert_close(box_similarity(pred, target, mode, exponent=3), want)
    loss = BoxIoULoss(mode, exponent=3)(pred, target)
    torch.testing.assert_close(loss, (1 - want).mean())
    torch.testing.assert_close(box_similarity(pred, target, mode, exponent=1), kind)


def test_an_exponent_that_does_not_fit_raises():
    for mode, exponent in (('siou', 3), ('iou', 0.5)):
        with pytest.raises(ValueError, match=f'exponent={exponent} does not fit mode='):
            BoxIoULoss(mode, exponent=exponent)


def test_alpha_has_no_gradient():
    """The gradient of CIoU equals that of its formula with a fixed alpha."""
    pred, target = random_boxes(20, 3), random_boxes(20, 4)
    leaf = pred.clone().requires_grad_()
    box_similarity(leaf, target, 'ciou').sum().backward()
    diou, ciou = (box_similarity(pred, target, mode) for mode in ('diou', 'ciou'))
    iou = box_similarity(pred, target)
    # alpha v = v^2 / (1 - iou + v) = gap, solved for v
    gap = diou - ciou
    v = (gap + (gap * gap + 4 * gap * (1 - iou)).sqrt()) / 2
    alpha = gap / v

    def frozen(boxes):
        angle = [torch.atan((b[:, 2] - b[:, 0]) / (b[:, 3] - b[:, 1])) for b in (target, boxes)]
        aspect = 4 / math.pi**2 * (angle[0] - angle[1]).square()
        return (box_similarity(boxes, target, 'diou') - alpha * aspect).sum()

    want = torch.autograd.functional.jacobian(frozen, pred)
    torch.testing.assert_close(leaf.grad, want, rtol=1e-8, atol=1e-10)


def test_aspect_factor_scales_the_angle_only():
    pred, target = random_boxes(20, 5) / 100, random_boxes(20, 6) / 100
    grads = []
    for factor in (False, True):
        leaf = pred.clone().requires_grad_()
        value = box_similarity(leaf, target, 'ciou', factor)
        torch.testing.assert_close(value, box_similarity(pred, target, 'ciou'))
        grads.append(torch.autograd.grad(value.sum(), leaf)[0])
    leaf = pred.clone().requires_grad_()
    plain = torch.autograd.grad(box_similarity(leaf, target, 'diou').sum(), leaf)[0]
    size = (pred[:, 2:] - pred[:, :2]).square().sum(1, keepdim=True)
    torch.testing.assert_close(grads[1] - plain, (grads[0] - plain) * size)


EDGES = {
    'identical': ([3.0, 4.0, 200.0, 90.0], [3.0, 4.0, 200.0, 90.0]),
    'disjoint': ([0.0, 0.0, 10.0, 10.0], [50.0, 60.0, 70.0, 80.0]),
    'touching': ([0.0, 0.0, 10.0, 10.0], [10.0, 0.0, 20.0, 10.0]),
    'flat': ([5.0, 5.0, 5.0, 20.0], [0.0, 0.0, 10.0, 10.0]),
    'point': ([5.0, 5.0, 5.0, 5.0], [0.0, 0.0, 10.0, 10.0]),
    'flat target': ([0.0, 0.0, 10.0, 10.0], [4.0, 4.0, 4.0, 9.0]),
    'two points': ([5.0, 5.0, 5.0, 5.0], [5.0, 5.0, 5.0, 5.0]),
    'inverted': ([9.0, 9.0, 2.0, 3.0], [0.0, 0.0, 10.0, 10.0]),
    'point beside inverted': ([0.0, 0.0, 0.0, 0.0], [0.0, 5.0, 0.0, 0.0]),
    'inverted at a point': ([5.0, 5.0, 4.999, 4.999], [5.0, 5.0, 5.0, 5.0]),
    'huge': ([-6e4, -6e4, 6e4, 6e4], [0.0, 0.0, 5e4, 6e4]),
}


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('edge', EDGES)
@pytest.mark.parametrize('mode', MODES)
def test_edges_are_finite(mode, edge, dtype):
    pred, target = (torch.tensor([box], dtype=dtype) for box in EDGES[edge])
    pred.requires_grad_()
    loss = box_iou_loss(pred, target, mode=mode)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite() and pred.grad.isfinite().all()
    torch.testing.assert_close(box_iou_loss(pred.detach(), target, mode=mode), loss.detach())
    if edge == 'identical':
        assert loss == 0 and (pred.grad == 0).all()


def test_float32_areas_do_not_overflow():
    boxes = torch.tensor([[0.0, 0.0, 1e30, 1e30]])
    torch.testing.assert_close(box_similarity(boxes, boxes / 2), torch.tensor([0.25]))
    leaf = boxes.clone().requires_grad_()
    torch.testing.assert_close(box_similarity(leaf, boxes / 2), torch.tensor([0.25]))


def test_weights_and_reductions():
    pred, target = random_boxes(6, 7), random_boxes(6, 8)
    each = box_iou_loss(pred, target, mode='giou', reduction='none')
    weight = torch.arange(6, dtype=torch.float64)
    torch.testing.assert_close(
        BoxIoULoss('giou', loss_weight=2.0)(pred, target, weight, avg_factor=3.0),
        2 * (each * weight).sum() / 3,
    )
    wide = weight[:, None].expand(-1, 4)
    torch.testing.assert_close(
        BoxIoULoss('giou')(pred, target, wide, reduction_override='sum'), (each * weight).sum()
    )
    close = giou_loss(pred, target, eps=1e-12, reduction='none')
    torch.testing.assert_close(each, close, rtol=1e-9, atol=1e-9)


def test_complete_iou_loss_equals_the_mode():
    pred, target = random_boxes(6, 9), random_boxes(6, 10)
    torch.testing.assert_close(CompleteIoULoss()(pred, target), BoxIoULoss('ciou')(pred, target))


def test_an_unknown_mode_raises():
    with pytest.raises(ValueError, match="'xiou' is unknown"):
        BoxIoULoss('xiou')


def test_overlaps_without_gradient_agree_with_pairs():
    first, second = random_boxes(5, 11), random_boxes(7, 12)
    table = pairwise_iou(first, second)
    want = box_similarity(first[:, None], second)
    torch.testing.assert_close(table, want)
    center, size = (second[:, :2] + second[:, 2:]) / 2, second[:, 2:] - second[:, :2]
    objects = torch.cat(((first[:, :2] + first[:, 2:]) / 2, first[:, 2:] - first[:, :2]), 1)
    mask = torch.tensor([[True, False, True, True, True]])
    best = best_overlap(center.t()[None, None], size.t()[None, None], objects[None], mask)
    torch.testing.assert_close(best[0, 0], table[mask[0]].amax(0))
    centred = torch.cat((-size / 2, size / 2), 1)
    torch.testing.assert_close(shape_iou(size, size), pairwise_iou(centred, centred))
