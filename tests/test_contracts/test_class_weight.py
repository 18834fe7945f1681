"""``class_weight`` of every criterion: a factor on the classification costs of each class."""

import pytest
import torch
from torch.utils._pytree import tree_map

from mmdet_losses.registry import MODELS, TASK_UTILS
from tests.cases import DETECTORS
from tests.detector_cases import IMG_SIZE, instances

pytestmark = pytest.mark.parametrize('stem', sorted(DETECTORS))
BY_LOGIT = ('CornerNet', 'CenterNetTriplet', 'CenterNetPoints', 'CenterTrack', 'RetinaNet')


@pytest.fixture(name='compute')
def _compute(stem):
    """Function from class weights to losses and outputs with gradients."""
    case = DETECTORS[stem]
    torch.manual_seed(3)
    predictor, encoder = MODELS.build(case.predictor), TASK_UTILS.build(case.encoder)
    with torch.no_grad():
        outputs = predictor(tuple(torch.randn(2, *shape) for shape in case.feats))
    outputs = tree_map(torch.Tensor.double, outputs)
    generator = torch.Generator().manual_seed(7)
    gt = [instances(case, count, generator) for count in (3, 2)]
    targets = encoder.encode(gt, encoder.feat_sizes(outputs), IMG_SIZE)

    def compute(weights):
        leaves = tree_map(lambda x: x.clone().requires_grad_(), outputs)
        return MODELS.build({**case.criterion, 'class_weight': weights})(leaves, targets), leaves

    return compute


def test_the_loss_is_affine_in_the_weights(compute):
    """Two classes at a time add up; terms without classes do not change."""

    def losses(*weights):
        return compute(weights)[0]

    plain, none, twice = losses(1, 1, 1), compute(None)[0], losses(2, 2, 2)
    singles = [losses(2, 1, 1), losses(1, 2, 1), losses(1, 1, 2)]
    changed = 0
    for name, value in plain.items():
        torch.testing.assert_close(value, none[name])
        added = sum(each[name] - value for each in singles)
        torch.testing.assert_close(added, twice[name] - value, rtol=1e-4, atol=1e-5)
        assert all(each[name] >= value - 1e-5 for each in singles)
        changed += bool(twice[name] > value + 1e-4)
    assert changed


def test_the_weight_scales_the_gradient_of_the_logits_of_its_class(compute, stem):
    if stem not in BY_LOGIT:
        pytest.skip('its class costs share a softmax, or are not the first field')
    grads = []
    for weights in (None, (1.0, 5.0, 0.5)):
        losses, outputs = compute(weights)
        kept = {n: v for n, v in losses.items() if 'heatmap' in n or n == 'loss_cls'}
        sum(kept.values()).backward()
        if stem == 'RetinaNet':
            maps = outputs.cls
        else:
            maps = ((outputs.tl if hasattr(outputs, 'tl') else outputs).heatmap,)
        grads.append([each.grad.unflatten(1, (-1, 3)) for each in maps])
    for plain, weighted in zip(*grads, strict=True):
        factor = torch.tensor([1.0, 5.0, 0.5])[:, None, None]
        torch.testing.assert_close(weighted, plain * factor, rtol=1e-5, atol=1e-9)


def test_invalid_weights_raise(compute, stem):
    for bad in ((1.0, -1.0, 1.0), (1.0, float('nan'), 1.0)):
        with pytest.raises(ValueError, match='class_weight has an invalid entry'):
            MODELS.build({**DETECTORS[stem].criterion, 'class_weight': bad})
    with pytest.raises(ValueError, match='class_weight has 2 entries but the network has 3'):
        compute((1.0, 1.0))
