"""CenterNetPoints with convention 'mmdet' against CenterNetHead: weights, loss, gradients."""

from pathlib import Path

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from mmdet_losses.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
META = {'img_shape': (64, 96), 'batch_input_shape': (64, 96), 'pad_shape': (64, 96)}
BRANCHES = {'heatmap': 'heatmap', 'size': 'wh', 'offset': 'offset'}
BOXES = [
    [[4.0, 5, 40, 50], [30, 8, 90, 33]],
    [[1.0, 1, 20, 60], [50, 9, 70, 22], [60, 3, 95, 63]],
]


@pytest.fixture(
    name='heads',
    params=[
        ('centernet_points/centernet_points_digits.py', 'baselines/mmdet_centernet_digits.py'),
        ('bccd/centernet_points_bccd.py', 'bccd/mmdet_centernet_bccd.py'),
    ],
)
def _heads(request):
    torch.manual_seed(0)
    heads = []
    with DefaultScope.overwrite_default_scope('mmdet'):
        for path in request.param:
            model = Config.fromfile(CONFIGS / path).model
            if 'encoder' in model.bbox_head:
                model.bbox_head.encoder.convention = 'mmdet'
            heads.append(MODELS.build({**model.bbox_head, 'test_cfg': model.test_cfg}))
            heads[-1].init_weights()
    return heads


def weights(heads):
    """Pairs of parameters, ours and MMDetection's."""
    ours, theirs = heads
    for name, their_name in BRANCHES.items():
        branch = getattr(ours.predictor, name)[0].state_dict()
        their_branch = getattr(theirs, f'{their_name}_head').state_dict()
        yield from zip(branch.values(), their_branch.values(), strict=True)


def test_initial_weights_have_the_same_distribution(heads):
    """Heatmap weights of 0.001 would make the first gradients too small and reduce AP."""
    for ours, theirs in weights(heads):
        if ours.ndim > 1:  # 96 numbers in the smallest tensor
            assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.25)
    last, their_last = [pair for pair in weights(heads) if pair[0].ndim == 1][1]
    torch.testing.assert_close(last, their_last)  # the prior


def test_our_loss_equals_that_of_mmdetection(heads):
    for ours, theirs in weights(heads):
        theirs.copy_(ours)
    samples = []
    for boxes in BOXES:
        objects = InstanceData(bboxes=torch.tensor(boxes), labels=torch.arange(len(boxes)) % 2)
        samples.append(DetDataSample(gt_instances=objects, metainfo=META))
    values, gradients = [], []
    for head in heads:
        feat = torch.linspace(-2, 2, 2 * 48 * 16 * 24).mul(1000).sin().reshape(2, 48, 16, 24)
        feat.requires_grad_()
        terms = head.loss((feat,), samples)
        values.append(sum(value for name, value in terms.items() if 'loss' in name))
        gradients += torch.autograd.grad(values[-1], feat)
    torch.testing.assert_close(values[0], values[1], rtol=1e-5, atol=0)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-6)
