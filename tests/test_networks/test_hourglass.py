"""Shapes, gradients and errors of the hourglasses and the corner predictors."""

import pytest
import torch
from mmdet.models.backbones import HourglassNet

from mmdet_losses.core.types import stacks
from mmdet_losses.networks import SaccadeHourglassNet, SqueezeHourglassNet, StackedHourglassNet
from mmdet_losses.registry import MODELS

SMALL = {'stage_channels': (8, 12, 16), 'stage_blocks': (1, 2, 2), 'feat_channels': 10}
PREDICTORS = ('CornerNetPredictor', 'CenterNetTripletPredictor', 'CornerNetSaccadePredictor')


def predictor_of(kind: str, num_stacks: int, **options):
    if kind == 'CornerNetSaccadePredictor':
        options['attention_channels'] = (12, 8)
    return MODELS.build(
        {
            'type': kind,
            'in_channels': 10,
            'num_classes': 3,
            'num_stacks': num_stacks,
            'channels': 6,
            'pool_channels': 4,
            **options,
        }
    )


@pytest.mark.parametrize('size', [(64, 96), (47, 61)])
@pytest.mark.parametrize(
    ('network', 'stride'), [(StackedHourglassNet, 4), (SqueezeHourglassNet, 8)]
)
def test_every_stack_has_the_stride_for_any_size(network, stride, size):
    maps = network(num_stacks=2, **SMALL).eval()(torch.randn(1, 3, *size))
    expected = (1, 10, -(-size[0] // stride), -(-size[1] // stride))
    assert [tuple(each.shape) for each in maps] == [expected] * 2


def test_equals_mmdetection_with_the_same_state_dict():
    torch.manual_seed(0)
    theirs = HourglassNet(1, 2, (8, 12), (1, 2), 10).eval()
    ours = StackedHourglassNet(2, (8, 12), (1, 2), 10).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 32, 48)
    for mine, official in zip(ours(x), theirs(x), strict=True):
        assert torch.equal(mine, official)


def test_every_parameter_of_one_stack_gets_a_gradient():
    network = StackedHourglassNet(1, **SMALL)
    sum(each.sum() for each in network(torch.randn(2, 3, 32, 32))).backward()
    assert [name for name, each in network.named_parameters() if each.grad is None] == []


def test_saccade_returns_the_inner_maps_coarsest_first():
    network = SaccadeHourglassNet(2, **SMALL).eval()
    maps = network(torch.randn(1, 3, 64, 96))
    sizes = [tuple(each.shape[1:]) for each in maps]
    inner = [(12, 8, 12), (8, 16, 24)]
    assert sizes == [(10, 16, 24)] * 2 + inner * 2


def test_different_numbers_of_levels_and_blocks_raise():
    with pytest.raises(ValueError, match='one number of blocks per level'):
        StackedHourglassNet(1, (8, 12, 16), (1, 2))


@pytest.mark.parametrize('kind', PREDICTORS)
def test_all_stacks_train_and_the_last_one_predicts(kind):
    predictor = predictor_of(kind, 2)
    backbone = StackedHourglassNet(2, with_merges='Saccade' in kind, **SMALL)
    feats = backbone(torch.randn(2, 3, 32, 48))
    outputs = predictor.train()(feats)
    assert len(outputs.earlier) == 1
    leaves = [
        tensor
        for stack in stacks(outputs)
        for field in stack._replace(earlier=())
        for tensor in (field if isinstance(field, tuple) else (field,))
    ]
    sum(tensor.sum() for tensor in leaves).backward()
    modules = {'backbone': backbone, 'predictor': predictor}
    assert [
        f'{part}.{name}'
        for part, module in modules.items()
        for name, each in module.named_parameters()
        if each.grad is None
    ] == []
    assert predictor.eval()(feats).earlier == ()


@pytest.mark.parametrize('kind', PREDICTORS)
def test_scores_start_at_the_prior(kind):
    torch.manual_seed(0)
    predictor = predictor_of(kind, 1)
    predictor.init_weights()
    for stack in predictor.stacks:
        score_branches = [
            branch for name, branch in stack.named_modules() if name.endswith('heatmap')
        ] + list(getattr(stack, 'attentions', ()))
        assert score_branches
        for branch in score_branches:
            score = branch[-1].bias.sigmoid()
            torch.testing.assert_close(score, torch.full_like(score, 0.1))


@pytest.mark.parametrize('kind', PREDICTORS)
def test_a_wrong_number_of_maps_is_named(kind):
    with pytest.raises(ValueError, match=r'stacks'):
        predictor_of(kind, 2)((torch.randn(1, 10, 8, 8),))
