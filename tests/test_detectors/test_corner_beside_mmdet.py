"""CornerNet against MMDetection's CornerHead: equal losses and gradients for equal weights."""

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
BRANCHES = {'pool': 'pool', 'heatmap': 'heat', 'embedding': 'emb', 'offset': 'off'}


def head_of(path):
    cfg = Config.fromfile(CONFIGS / path)
    return MODELS.build({**cfg.model.bbox_head, 'test_cfg': cfg.model.test_cfg})


def copy_weights(ours, theirs):
    """Copy module by module, in the order of construction."""
    [stack] = ours.predictor.stacks
    for corner in ('tl', 'br'):
        for name, their_name in BRANCHES.items():
            target = getattr(theirs, f'{corner}_{their_name}')[0].state_dict()
            source = getattr(getattr(stack, corner), name).state_dict()
            for to, weights in zip(target.values(), source.values(), strict=True):
                to.copy_(weights)


def samples():
    """At least two objects per image: with one, our push is a constant and MMDetection's is 0."""
    found = []
    for boxes in (
        [[4.0, 5, 40, 50], [30, 8, 90, 33]],
        [[1.0, 1, 20, 60], [50, 9, 70, 22], [60, 3, 95, 63]],
    ):
        objects = InstanceData(bboxes=torch.tensor(boxes), labels=torch.arange(len(boxes)))
        found.append(DetDataSample(gt_instances=objects, metainfo=META))
    return found


@pytest.mark.parametrize(
    ('path', 'other'),
    [
        ('cornernet/cornernet_wide_digits.py', 'baselines/mmdet_cornernet_digits.py'),
        ('bccd/cornernet_bccd.py', 'bccd/mmdet_cornernet_bccd.py'),
    ],
)
def test_our_loss_is_twice_that_of_mmdetection(path, other):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        ours, theirs = head_of(path), head_of(other)
    copy_weights(ours, theirs)
    values, gradients = [], []
    for head in (ours, theirs):
        feat = torch.linspace(-2, 2, 2 * 48 * 16 * 24).mul(1000).sin().reshape(2, 48, 16, 24)
        feat.requires_grad_()
        terms = head.loss((feat,), samples())
        loss = sum(
            sum(value) if isinstance(value, list) else value
            for name, value in terms.items()
            if 'loss' in name
        )
        gradients += torch.autograd.grad(loss, feat)
        values.append(loss.detach())
    torch.testing.assert_close(values[0], 2 * values[1], rtol=1e-5, atol=0)
    # pooling and batch norm add up float32 rounding
    torch.testing.assert_close(gradients[0], 2 * gradients[1], rtol=1e-3, atol=1e-6)
