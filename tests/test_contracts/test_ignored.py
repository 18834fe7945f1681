"""Every detector with ignored regions: neither objects nor background."""

import pytest
import torch
from mmengine.structures import InstanceData
from torch.utils._pytree import tree_flatten, tree_map

from mmdet_losses.core import encode_batch
from mmdet_losses.registry import MODELS, TASK_UTILS
from tests.cases import DETECTORS
from tests.detector_cases import IMG_SIZE, instances

pytestmark = pytest.mark.parametrize('stem', sorted(DETECTORS))
EVERYWHERE = InstanceData(bboxes=torch.tensor([[-900.0, -900.0, 900.0, 900.0]]))
PRIOR_BOXES = ('loss_xy', 'loss_wh')  # YOLOv2 moves free anchors to their prior


@pytest.fixture(name='compute')
def _compute(stem):
    """Function from objects and ignored regions to losses, outputs with gradients and targets."""
    case = DETECTORS[stem]
    torch.manual_seed(3)
    predictor, criterion = MODELS.build(case.predictor), MODELS.build(case.criterion)
    encoder = TASK_UTILS.build(case.encoder)
    with torch.no_grad():
        outputs = predictor(tuple(torch.randn(2, *shape) for shape in case.feats))

    def compute(counts, ignored):
        generator = torch.Generator().manual_seed(7)
        gt = [instances(case, count, generator) for count in counts]
        leaves = tree_map(lambda x: x.clone().requires_grad_(), outputs)
        targets = encode_batch(encoder, gt, encoder.feat_sizes(leaves), IMG_SIZE, ignored)
        return criterion(leaves, targets), leaves, targets

    return compute


def test_no_background_is_learned_in_a_region_without_labels(compute):
    losses, outputs, _ = compute((0, 0), [EVERYWHERE, EVERYWHERE])
    free = {name: value for name, value in losses.items() if name not in PRIOR_BOXES}
    assert free and all(value == 0 for value in free.values())
    sum(losses.values()).backward()
    assert all(leaf.grad is not None for leaf in tree_flatten(outputs)[0])


def test_regions_hide_background_but_no_object(compute):
    plain, _, targets = compute((2, 1), None)
    hidden, _, same = compute((2, 1), [EVERYWHERE, None])
    if 'counted' in targets._fields and hasattr(targets, 'shapes'):
        assert same.num_pos < targets.num_pos  # as in MMDetection, matched anchors are hidden too
        return
    assert hidden.keys() == plain.keys()
    assert targets.num_pos == same.num_pos
    assert sum(hidden.values()) < sum(plain.values())
    for name in plain:
        if not any(part in name for part in ('heatmap', 'noobj', 'obj', 'attention')):
            torch.testing.assert_close(hidden[name], plain[name])


def test_images_without_regions_do_not_change(compute):
    empty = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    outside = InstanceData(
        bboxes=torch.tensor([[-90.0, -90.0, -10.0, -10.0], [5.0, 5.0, 5.0, 9.0]])
    )
    want, *_ = compute((2, 1), None)
    for ignored in ([None, None], [empty, None], [outside, empty]):
        have, *_ = compute((2, 1), ignored)
        for name, value in want.items():
            torch.testing.assert_close(have[name], value, rtol=1e-6, atol=0)
