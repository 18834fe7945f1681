"""Losses of values at the ends of their range: finite, bounded, with finite gradients."""

import math

import pytest
import torch

from mmdet_losses.losses import BoxIoULoss, PenaltyReducedFocalLoss, SigmoidFocalLoss
from mmdet_losses.ops import IOU_MODES, box_similarity, is_proper
from mmdet_losses.registry import MODELS, TASK_UTILS
from tests.detector_cases import DETECTORS, IMG_SIZE, instances

LEAST = {'iou': 0, 'giou': -1, 'diou': -1, 'ciou': -2, 'eiou': -3, 'siou': -2}
"""Smallest value of the measures for any pair of boxes."""


def random_corners(count: int, scale: float) -> torch.Tensor:
    """Boxes of any orientation: about three of four are inverted."""
    generator = torch.Generator().manual_seed(count)
    return scale * torch.randn(count, 4, generator=generator)


@pytest.mark.parametrize('scale', [1.0, 1e5])
@pytest.mark.parametrize('mode', LEAST)
def test_inverted_boxes_count_as_empty_ones_in_their_middle(mode, scale):
    pred = random_corners(200, scale).requires_grad_()
    target = torch.tensor([3.0, 4.0, 13.0, 24.0])
    have = box_similarity(pred, target, mode)
    assert have.min() >= LEAST[mode] - 1e-5 and have.max() <= 1
    (grad,) = torch.autograd.grad(have.sum(), pred)
    assert grad.isfinite().all()
    low, high = pred.detach().unflatten(-1, (2, 2)).unbind(-2)
    middle = (low + high) / 2
    empty = high < low
    flat = torch.cat((torch.where(empty, middle, low), torch.where(empty, middle, high)), -1)
    torch.testing.assert_close(have.detach(), box_similarity(flat, target, mode))
    # both corners of an inverted side move its middle
    both = grad.unflatten(-1, (2, 2))
    torch.testing.assert_close(both[:, 0][empty], both[:, 1][empty])


@pytest.mark.parametrize('edge', [1.8e38, 3e38, math.inf])
@pytest.mark.parametrize('mode', IOU_MODES)
def test_boxes_whose_width_overflows_have_finite_losses(mode, edge):
    pred = torch.tensor([[-edge, 1.0, edge, 9.0], [2.0, 1.0, 6.0, 9.0]]).requires_grad_()
    target = torch.tensor([[2.0, 1.0, 6.0, 9.0], [-edge, -edge, edge, edge]])
    loss = BoxIoULoss(mode)(pred, target)
    loss.backward()
    assert loss.isfinite() and pred.grad.isfinite().all()


def test_a_box_whose_width_overflows_is_not_proper():
    boxes = torch.tensor([[-3e38, 1.0, 3e38, 9.0], [-1e38, 1.0, 1e38, 9.0], [0, 0, math.inf, 1]])
    assert is_proper(boxes).tolist() == [False, True, False]


@pytest.mark.parametrize('mode', IOU_MODES)
def test_gradients_of_tiny_half_precision_boxes_are_finite(mode):
    pred = torch.tensor([[0.0, 0.0, 6e-8, 6e-8], [0.0, 0.0, 1e-6, 6e-8]], dtype=torch.float16)
    target = torch.tensor([[0.0, 0.0, 3e-6, 3e-6]] * 2, dtype=torch.float16)
    leaf = pred.requires_grad_()
    BoxIoULoss(mode, reduction='sum')(leaf, target).backward()
    assert leaf.grad.dtype == torch.float16 and leaf.grad.isfinite().all()
    if mode == 'iou':  # the exact gradient is about 2e5
        assert leaf.grad.abs().max() == torch.finfo(torch.float16).max


TARGET = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]])


@pytest.mark.parametrize('exponent', [0.0, 0.3, 0.5, 1.0, 1.5])
@pytest.mark.parametrize('logit', [-120.0, 120.0])
@pytest.mark.parametrize('kind', ['classes', 'soft', 'heatmap'])
def test_exponents_below_one_have_finite_gradients(kind, logit, exponent):
    pred = torch.full((2, 3), logit, requires_grad=True)
    if kind == 'heatmap':
        term, target = PenaltyReducedFocalLoss(alpha=exponent), TARGET
    else:
        term = SigmoidFocalLoss(gamma=exponent)
        target = TARGET if kind == 'soft' else torch.tensor([0, 3])
    found = []
    for reduction in ('sum', 'none'):
        loss = term(pred, target, reduction_override=reduction).sum()
        found.append((loss.detach(), *torch.autograd.grad(loss, pred)))
        assert all(each.isfinite().all() for each in found[-1])
    for have, want in zip(*found, strict=True):
        torch.testing.assert_close(have, want)


def test_compiled_exponents_below_one_have_finite_gradients():
    pred = torch.tensor([[120.0, -120.0, 0.0], [-120.0, 120.0, 1.0]], requires_grad=True)
    term = SigmoidFocalLoss(gamma=0.5)
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: term(x, torch.tensor([0, 3])), backend='eager')
    for function in (compiled, lambda x: term(x, torch.tensor([0, 3]))):
        (grad,) = torch.autograd.grad(function(pred), pred)
        assert grad.isfinite().all()


@pytest.mark.parametrize('size', [-120.0, 120.0])
def test_summary_convention_of_yolov2_has_finite_gradients_at_extreme_sizes(size):
    case, generator = DETECTORS['YOLOV2'], torch.Generator().manual_seed(0)
    encoder = TASK_UTILS.build({**case.encoder, 'convention': 'summary'})
    outputs = encoder.outputs_type(
        [torch.full((1, 5 * (5 + case.num_classes), 6, 5), size, requires_grad=True)]
    )
    targets = encoder.encode([instances(case, 3, generator)], [(6, 5)], IMG_SIZE)
    losses = MODELS.build({**case.criterion, 'convention': 'summary'})(outputs, targets)
    total = torch.stack([*losses.values()]).sum()
    (grad,) = torch.autograd.grad(total, outputs[0][0])
    assert total.isfinite() and grad.isfinite().all()


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_center_track_has_no_displacement_to_a_previous_centre_that_is_not_finite(value):
    case, generator = DETECTORS['CenterTrack'], torch.Generator().manual_seed(0)
    encoder = TASK_UTILS.build(case.encoder)
    objects = instances(case, 3, generator)
    objects.previous_mask[:] = True
    objects.previous_centers[1, 0] = value
    targets = encoder.encode([objects], [(24, 20)], IMG_SIZE)
    assert targets.tracking.isfinite().all()
    assert targets.tracking_mask[0].tolist()[:3] == [True, False, True]
