"""``weights`` of the ground truth: a factor on the costs of each object, in every criterion."""

import pytest
import torch
from torch.utils._pytree import tree_flatten, tree_map

from mmdet_losses.registry import MODELS, TASK_UTILS
from tests.cases import DETECTORS
from tests.detector_cases import IMG_SIZE, instances

pytestmark = pytest.mark.parametrize('stem', sorted(DETECTORS))


@pytest.fixture(name='compute')
def _compute(stem):
    """Function from the weights of three objects and of two to losses and gradients."""
    case = DETECTORS[stem]
    torch.manual_seed(3)
    predictor, encoder = MODELS.build(case.predictor), TASK_UTILS.build(case.encoder)
    with torch.no_grad():
        outputs = predictor(tuple(torch.randn(2, *shape) for shape in case.feats))
    outputs = tree_map(torch.Tensor.double, outputs)

    def compute(*weights):
        generator = torch.Generator().manual_seed(7)
        gt = [instances(case, count, generator) for count in (3, 2)]
        for each, given in zip(gt, weights, strict=False):
            if given is not None:
                each.weights = torch.tensor(given)
        targets = encoder.encode(gt, encoder.feat_sizes(outputs), IMG_SIZE)
        leaves = tree_map(lambda x: x.clone().requires_grad_(), outputs)
        losses = MODELS.build(case.criterion)(leaves, targets)
        sum(losses.values()).backward()
        flat = [each for each in tree_flatten(leaves)[0] if each.grad is not None]
        return losses, torch.cat([each.grad.flatten() for each in flat])

    return compute


def test_weights_of_one_change_nothing(compute):
    (plain, grad), (ones, same) = compute(), compute((1.0, 1.0, 1.0))
    for name, value in plain.items():
        torch.testing.assert_close(ones[name], value)
    torch.testing.assert_close(same, grad)


def test_the_gradient_is_affine_in_the_weights(compute):
    """The changes by two objects add up, and an object without a weight has 1."""
    _, plain = compute()
    first, second = compute((3.0, 1.0, 1.0))[1], compute((1.0, 2.0, 1.0))[1]
    both, third = compute((3.0, 2.0, 1.0))[1], compute(None, (1.0, 0.5))[1]
    torch.testing.assert_close(both - plain, first + second - 2 * plain, rtol=1e-4, atol=1e-6)
    for each in (first, second, third):
        assert (each - plain).abs().max() > 1e-6
    every = compute((3.0, 2.0, 1.0), (1.0, 0.5))[1]
    torch.testing.assert_close(every - both, third - plain, rtol=1e-4, atol=1e-6)


def test_objects_of_weight_zero_cost_nothing(compute):
    """With all weights 0 the terms of single objects vanish, and no term grows."""
    losses, _ = compute((0.0, 0.0, 0.0), (0.0, 0.0))
    plain, _ = compute()
    for name, value in losses.items():
        assert value <= plain[name] + 1e-6, name
        if name.endswith(
            ('size', 'offset', 'tracking', 'ltrb', 'ltrb_amodal', 'keypoints', 'pull')
        ):
            assert value < 1e-30, name
