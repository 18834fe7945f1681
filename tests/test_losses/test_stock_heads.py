"""Every loss of ours in every slot of the heads of MMDetection."""

import inspect

import mmdet.models  # noqa: F401  registers the heads
import pytest
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.config import ConfigDict

from docs import stock_heads
from mmdet_losses.losses.slots import slot_kind
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


NOT_RUN = {
    ('DIIHead', 'loss_iou'), ('SABLHead', 'loss_bbox_cls'),
    ('SABLHead', 'loss_bbox_reg'), ('GridHead', 'loss_grid'), ('MaskIoUHead', 'loss_iou'),
    # arguments of a base class that the head does not use
    ('RepPointsHead', 'loss_bbox'), ('MaskFormerHead', 'loss_bbox'),
    ('Mask2FormerHead', 'loss_bbox'), ('Mask2FormerTrackHead', 'loss_bbox'),
    ('SSDHead', 'loss_cls'), ('SSDHead', 'loss_bbox'),
    ('PISASSDHead', 'loss_cls'), ('PISASSDHead', 'loss_bbox'),
}  # fmt: skip
"""Slots that may take our losses, but whose heads are not in the table."""


def stock_slots():
    """(head, slot) of every loss in the signatures of MMDetection's heads and their bases."""
    for head in MMDET_MODELS.module_dict.values():
        if not inspect.isclass(head) or not head.__module__.startswith('mmdet.'):
            continue
        for owner in head.__mro__ if not inspect.isabstract(head) else ():
            names = inspect.signature(owner).parameters if '__init__' in vars(owner) else ()
            slots = (name for name in names if name.startswith(('loss_', 'initial_loss_')))
            yield from ((head, name) for name in slots if not name.endswith(('weight', 'key')))


def test_every_loss_slot_of_mmdetection_is_in_the_table_or_takes_no_loss_of_ours():
    tested: dict[str, list[type]] = {}
    for head in stock_heads.HEADS.values():
        for slot in head.slots:
            tested.setdefault(slot, []).append(MMDET_MODELS.get(head.config['type']))
    open_slots, heads = set(), {}
    for head, slot in stock_slots():
        stand_in = heads.setdefault(head, object.__new__(head))
        vars(stand_in).update(_modules={}, _parameters={}, _buffers={})
        related = (
            issubclass(head, each) or issubclass(each, head) for each in tested.get(slot, ())
        )
        if not any(related) and slot_kind(stand_in, slot) != 'other inputs':
            open_slots.add((head.__name__, slot))
    assert len(heads) > 60
    assert open_slots == NOT_RUN


@pytest.mark.parametrize('loss', ['SigmoidFocalLoss', 'MaskedL1Loss', 'BoxIoULoss'])
def test_a_slot_of_masks_without_a_default_raises(loss):
    with pytest.raises(ValueError, match=f'loss_mask of CondInstMaskHead is {loss}, which does'):
        stock_heads.HEADS['CondInstMaskHead'].build(
            'loss_mask', dict(type=loss, **{'use_sigmoid': True} if 'Focal' in loss else {})
        )


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
