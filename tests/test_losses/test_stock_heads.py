"""Every loss of ours in every slot of the heads of MMDetection."""

import pytest
from mmengine.config import ConfigDict

from docs import stock_heads
from mmdet_losses.registry import MODELS


@pytest.mark.parametrize('name', stock_heads.HEADS)
def test_a_loss_equals_the_stock_loss_or_raises_when_the_head_is_built(name):
    found = stock_heads.outcomes(name)
    wrong = {
        place: outcome
        for place, outcome in found.items()
        if outcome[0] not in ('equal', 'other', 'raises')
    }
    assert not wrong
    for (slot, loss), (outcome, message) in found.items():
        if outcome == 'raises':
            assert f'{slot} of ' in message and f' is {loss}, which does not take ' in message
            assert 'choose ' in message and message.count('\n') == 0
    # without a stock loss of the formula, or with weights that the stock loss does not take
    others = {loss for (_, loss), (outcome, _) in found.items() if outcome == 'other'}
    l1 = {'MaskedL1Loss', 'MaskedSmoothL1Loss', 'MaskedWeightedL1Loss'}
    focal = {'SigmoidFocalLoss'} if name == 'YOLOV3Head' else set()
    assert others <= {'CompleteIoULoss'} | l1 | focal


def test_the_page_has_the_outcomes():
    page = stock_heads.PAGE.read_text(encoding='utf-8')
    assert page == stock_heads.page(), 'run python docs/stock_heads.py'


def test_every_loss_that_fits_a_head_is_equal_in_one():
    equal = {
        loss
        for name in stock_heads.HEADS
        for (_, loss), (outcome, _) in stock_heads.outcomes(name).items()
        if outcome == 'equal'
    }
    without_stock = {'CompleteIoULoss', 'CenterTrackFocalLoss', 'HardNegativeCrossEntropyLoss'}
    assert equal == set(stock_heads.PAIRS) - without_stock


@pytest.mark.parametrize('name', ['RetinaHead', 'FCOSHead', 'FoveaHead', 'ATSSHead', 'FSAFHead'])
def test_a_focal_loss_without_use_sigmoid_in_the_config_raises(name):
    with pytest.raises(ValueError, match='use_sigmoid is missing from the config of loss_cls of'):
        stock_heads.HEADS[name].build('loss_cls', {'type': 'SigmoidFocalLoss'})


@pytest.mark.parametrize(
    'name, slot, loss, cure',
    [
        ('CenterNetHead', 'loss_center_heatmap', 'PenaltyReducedFocalLoss', 'activated=True'),
        ('CornerHead', 'loss_heatmap', 'PenaltyReducedFocalLoss', 'activated=True'),
        ('RetinaHead', 'loss_bbox', 'GeneralizedIoULoss', 'reg_decoded_bbox=True'),
        ('Shared2FCBBoxHead', 'loss_bbox', 'BoxIoULoss', 'reg_decoded_bbox=True'),
        ('RTMDetHead', 'loss_cls', 'SigmoidFocalLoss', 'QualityFocalLoss'),
    ],
)
def test_the_message_names_the_cure(name, slot, loss, cure):
    with pytest.raises(ValueError, match=cure):
        stock_heads.HEADS[name].build(
            slot,
            {'type': loss, 'use_sigmoid': True} if loss == 'SigmoidFocalLoss' else {'type': loss},
        )


def test_scores_in_a_slot_of_logits_raise():
    loss = {'type': 'SigmoidFocalLoss', 'use_sigmoid': True, 'activated': True}
    with pytest.raises(ValueError, match='head passes logits; set activated=False'):
        stock_heads.HEADS['RetinaHead'].build('loss_cls', loss)


def test_heads_of_other_packages_are_not_checked():
    class OwnHead(MODELS.get('RetinaHead')):
        """A head that passes boxes without reg_decoded_bbox."""

    case = stock_heads.HEADS['RetinaHead']
    config = {**case.config, **case.slots, 'loss_bbox': {'type': 'BoxIoULoss'}, 'type': OwnHead}
    assert MODELS.build(ConfigDict(config)).loss_bbox.mode == 'iou'
