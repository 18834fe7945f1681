"""``tools/fuzz.py``: a fixed part of its batches, and failures that it must find."""

import sys

import pytest
import torch

from mmdet_losses.losses import MaskedL1Loss
from tools import fuzz


def test_the_first_batches_have_no_failure():
    results = list(fuzz.run(0, 4 * len(fuzz.SUBJECTS), seed=0))
    assert [problem for _, problem in results if problem is not None] == []
    assert {name for name, _ in results} == {name for _, name in fuzz.SUBJECTS}


def test_a_batch_is_reproducible():
    drawn = [fuzz.random_boxes(30, (64, 96), torch.Generator().manual_seed(5)) for _ in range(2)]
    torch.testing.assert_close(drawn[0][0], drawn[1][0], equal_nan=True)
    assert 0 < drawn[0][1] == drawn[1][1] < 30


def test_a_failure_is_reported_with_its_batch(monkeypatch, capsys):
    def broken(self, pred, target, weight=None, **_):
        return (pred * torch.nan).sum()

    monkeypatch.setattr(MaskedL1Loss, 'forward', broken)
    batch = [name for _, name in fuzz.SUBJECTS].index('MaskedL1Loss')
    monkeypatch.setattr(sys, 'argv', ['fuzz.py', '--first', str(batch), '--batches', '1'])
    assert fuzz.main() == 1
    printed = capsys.readouterr().out
    assert f'batch {batch}, MaskedL1Loss: the loss is nan' in printed
    assert '1 batches, 1 failures, seed 0' in printed


def test_an_exception_is_a_failure(monkeypatch):
    def broken(*_):
        raise RuntimeError('broken')

    monkeypatch.setattr(fuzz, 'SUBJECTS', ((broken, 'subject'),))
    ((_, problem),) = fuzz.run(3, 1, seed=0)
    assert problem.batch == 3 and problem.reason.startswith('RuntimeError at test_fuzz.py:')


@pytest.mark.parametrize('size', [(64, 96), (300, 40)])
def test_boxes_hold_every_kind_of_fault(size):
    boxes, wrong = fuzz.random_boxes(500, size, torch.Generator().manual_seed(1))
    sides = boxes[:, 2:] - boxes[:, :2]
    assert wrong > 50
    assert boxes.isnan().any() and boxes.isinf().any()
    assert (sides < 0).any() and (sides == 0).any() and (sides > 1e8).any()
